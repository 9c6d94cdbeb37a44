"""Building the pages: Sphinx, strictly."""

import subprocess
import sys
from pathlib import Path

from .parts import DOCS

__all__ = ["build"]


def build(output: Path, scratch: Path) -> int:
    """Build the site into ``output``; a warning, such as a link that leads nowhere, fails it.

    ``scratch`` keeps what Sphinx has parsed, for the next build. Returns the exit code.
    """
    strictly = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    places = ["--doctree-dir", str(scratch), str(DOCS), str(output)]
    return subprocess.run([sys.executable, "-m", "sphinx", *strictly, *places], check=False).returncode
