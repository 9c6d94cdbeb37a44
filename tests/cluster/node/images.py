"""Container images made here: an archive as ``docker save`` writes it, from a few files in memory.

The images' registry, ``oz.test``, does not exist (RFC 6761), so that none is ever pulled.
"""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .config import PAUSE_IMAGE

__all__ = [
    "AGENT_IMAGE",
    "BUSYBOX_IMAGE",
    "EMPTY_IMAGE",
    "File",
    "Image",
    "Link",
    "archive",
    "busybox_layer",
    "digest",
    "image_config",
    "layer",
    "standard_images",
]

BUSYBOX_IMAGE: Final = "oz.test/busybox:1"
"""BusyBox and nothing else: a task's image, and a userland unlike GNU's."""

AGENT_IMAGE: Final = "oz.test/script-agent:1"
"""An agent that runs the script in ``OZ_TEST_SCRIPT``, in the task's own userland."""

EMPTY_IMAGE: Final = "oz.test/empty:1"
"""An image without a shell, or any program at all."""

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's names, and those of images."""

# What a container of the Pod's own does: nothing, until it is stopped.
PAUSE: Final = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"

SCRIPT_AGENT: Final = """\
#!/bin/sh
exec /bin/sh -c "$OZ_TEST_SCRIPT" script-agent "$@"
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of an image."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of an image."""

    target: str


@dataclass(frozen=True)
class Image:
    """An image by name: its layers, the lowest first, and the command of a container that names none."""

    name: str
    layers: Sequence[bytes]
    command: Sequence[str] = ("/bin/sh",)
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": "/bin"})


def layer(entries: Mapping[str, File | Link]) -> bytes:
    """Return a layer: a tar of the entries by path, with the folders that they need. Equal in, equal out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for folder in sorted({str(parent) for path in entries for parent in Path(path).parents} - {"."}):
            tar.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
        for path, entry in sorted(entries.items()):
            if isinstance(entry, Link):
                member = _member(path, tarfile.SYMTYPE, 0o777)
                member.linkname = entry.target
                tar.addfile(member)
            else:
                member = _member(path, tarfile.REGTYPE, entry.mode)
                member.size = len(entry.content)
                tar.addfile(member, io.BytesIO(entry.content))
    return stream.getvalue()


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode = kind, mode
    return member


def archive(images: Sequence[Image], path: Path) -> None:
    """Write the images as one archive (Docker Image Specification v1.2, Combined Image JSON)."""
    manifest: list[Any] = []
    members: dict[str, bytes] = {}
    for image in images:
        config = image_config(image)
        layers = {f"{_file_name(content)}.tar": content for content in image.layers}
        name = f"{_file_name(config)}.json"
        members |= {name: config, **layers}
        manifest.append({"Config": name, "RepoTags": [image.name], "Layers": list(layers)})
    members["manifest.json"] = json.dumps(manifest).encode()
    path.write_bytes(layer({name: File(content) for name, content in members.items()}))


def _file_name(content: bytes) -> str:
    return digest(content).partition(":")[2]


def image_config(image: Image) -> bytes:
    """Return the image's configuration, JSON: what it runs, and the digests of its layers."""
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Cmd": list(image.command),
            "Env": [f"{name}={value}" for name, value in image.environment.items()],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(content) for content in image.layers]},
    }
    return json.dumps(config).encode()


def digest(content: bytes) -> str:
    """Name a content as registries do."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def busybox_layer(busybox: Path) -> bytes:
    """Return a layer with BusyBox, a link for each of its applets, and what programs expect of a root."""
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    entries: dict[str, File | Link] = {
        f"bin/{applet}": Link("busybox") for applet in listed.stdout.split() if applet != "busybox"
    }
    entries["bin/busybox"] = File(busybox.read_bytes(), 0o755)
    entries["etc/passwd"] = File(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    entries["etc/group"] = File(b"root:x:0:\nnogroup:x:65534:\n")
    entries["root/.keep"] = File(b"")
    entries["tmp/.keep"] = File(b"")
    return layer(entries)


def standard_images(busybox: Path) -> list[Image]:
    """Return the images that every node has."""
    base = busybox_layer(busybox)
    agent = layer({"entrypoint.sh": File(SCRIPT_AGENT.encode(), 0o755)})
    return [
        Image(PAUSE_IMAGE, [base], ("/bin/sh", "-c", PAUSE)),
        Image(BUSYBOX_IMAGE, [base]),
        Image(AGENT_IMAGE, [base, agent], ("/entrypoint.sh",)),
        Image(EMPTY_IMAGE, [layer({"etc/motd": File(b"There is no program here.\n")})], ("/none",)),
    ]
