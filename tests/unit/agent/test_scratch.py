"""The agent's temporary directory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oz_agent_worker.agent.errors import HarnessNotExecutableError
from oz_agent_worker.agent.scratch import scratch_directory

NOBODY = 65534


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary directories, which every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_it_is_private_and_removed(folder: Path) -> None:
    with scratch_directory() as scratch:
        (scratch / "inside").mkdir()
        assert (scratch.parent, scratch.stat().st_mode & 0o777) == (folder, 0o700)
    assert list(folder.iterdir()) == []


def test_it_is_removed_after_an_error(folder: Path) -> None:
    with pytest.raises(KeyError), scratch_directory():
        raise KeyError
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
def test_another_users_folder_in_it_is_no_error(folder: Path) -> None:
    os.seteuid(NOBODY)
    try:
        with scratch_directory() as scratch:
            os.seteuid(0)
            (scratch / "theirs").mkdir(mode=0o700)
            (scratch / "theirs" / "file").touch()
            os.seteuid(NOBODY)
            (scratch / "ours").touch()
        assert list(scratch.iterdir()) == [scratch / "theirs"]
    finally:
        os.seteuid(0)


def test_no_directory_can_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "missing"))
    with pytest.raises(HarnessNotExecutableError, match="no temporary directory"), scratch_directory():
        pass
