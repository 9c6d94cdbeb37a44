"""The real agent as an image: what images/agent lays out, over a layer with a shell."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import oz_agent_worker

from .images import File, Image, layer

__all__ = ["PYTHON_AGENT_IMAGE", "agent_image"]

PYTHON_AGENT_IMAGE: Final = "oz.test/agent:1"

LAYOUT: Final = Path(__file__).parents[3] / "images" / "agent" / "rootfs.py"


def agent_image(base: bytes) -> Image:
    """Return the image; ``base`` is a layer with a shell and ``cp``, which a sidecar needs."""
    package = Path(oz_agent_worker.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(LAYOUT), "--package", str(package), "--output", folder]
        subprocess.run(command, check=True)
        root = Path(folder)
        entries = {
            str(path.relative_to(root)): File(path.read_bytes(), path.stat().st_mode & 0o777)
            for path in root.rglob("*")
            if path.is_file()
        }
    return Image(PYTHON_AGENT_IMAGE, [base, layer(entries)], ("/entrypoint.sh",))
