"""Where a node's programs come from."""

import shutil
import struct
from pathlib import Path

import pytest

from tests.cluster import packages
from tests.cluster.errors import ProvisionError
from tests.cluster.packages import PROGRAMS, is_static, node_programs

INTERPRETER, LOAD = 3, 1


def elf(*segments: int) -> bytes:
    """A 64-bit ELF file that has nothing but program headers of these types (elf(5))."""
    header = b"\x7fELF\x02".ljust(32, b"\0") + struct.pack("<Q", 64)
    header = header.ljust(54, b"\0") + struct.pack("<HH", 56, len(segments))
    return header.ljust(64, b"\0") + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in segments)


@pytest.mark.parametrize(
    ("content", "static"),
    [
        (elf(LOAD, LOAD), True),
        (elf(LOAD, INTERPRETER, LOAD), False),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
    ids=["static", "dynamic", "script", "empty"],
)
def test_a_program_without_an_interpreter_is_static(tmp_path: Path, content: bytes, static: bool) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    assert is_static(program) is static


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine without any of the programs, and without apt."""
    monkeypatch.setattr(packages, "_on_the_system", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    return {"OZ_TEST_CACHE": str(tmp_path)}


def test_without_apt_a_program_that_is_missing_is_named(bare: dict[str, str]) -> None:
    with pytest.raises(ProvisionError, match=r"no busybox here, and no apt-get"):
        node_programs(bare)


def test_what_was_unpacked_before_is_used_without_apt(bare: dict[str, str]) -> None:
    places = dict.fromkeys(PROGRAMS, "usr/bin") | dict.fromkeys(packages.PLUGINS, "usr/lib/cni")
    unpacked = Path(bare["OZ_TEST_CACHE"]) / "packages" / packages._system_name()
    for name, folder in places.items():
        path = unpacked / PROGRAMS[name] / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    found = node_programs(bare)
    assert found.keys() == PROGRAMS.keys()
    assert found["bridge"] == unpacked / "containernetworking-plugins/usr/lib/cni/bridge"


def test_a_program_of_a_plugins_name_is_no_plugin(tmp_path: Path) -> None:
    other = tmp_path / "usr/sbin/bridge"  # iproute2's
    other.parent.mkdir(parents=True)
    other.touch(mode=0o755)
    assert packages._first(tmp_path, "bridge") is None
