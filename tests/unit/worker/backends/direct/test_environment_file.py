"""The file that a setup command leaves: what is taken of it, and what is said of the rest."""

import logging
import os
from pathlib import Path

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.direct.environment_file import (
    MAX_ENVIRONMENT_FILE,
    EnvironmentFile,
    read_environment_file,
)

BEFORE = {"HOME": "/home/w", "BYTES": "\udce9", "M": "0123"}
OWN = {"OZ_RUN_ID": "run", "GIT_CONFIG_GLOBAL": "/ws/gitconfig"}


def read(path: Path) -> EnvironmentFile:
    return read_environment_file(path, before=BEFORE, own=OWN, mark="M")


def test_variables_are_bytes(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_bytes(b"A=1\nB=caf\xe9\nC=\xc3\xa9$BYTES\nD=$'\\303\\251'\n")
    found = {name: secret.reveal() for name, secret in read(path).variables.items()}
    assert {name: os.fsencode(value) for name, value in found.items()} == {
        "A": b"1",
        "B": b"caf\xe9",
        "C": b"\xc3\xa9\xe9",
        "D": b"\xc3\xa9",
    }


def test_the_values_are_secrets(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("A=hidden\nB='hidden\n")
    file = read(path)
    assert file.variables == {"A": Secret("hidden")}
    assert "hidden" not in repr(file) + str(file.notes)


def test_what_keeps_the_task_apart_stays_and_is_said_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("A=1\nGIT_CONFIG_GLOBAL=/etc/gitconfig\nOZ_RUN_ID=run\nB\nGIT_CONFIG_GLOBAL=/etc/git\n")
    file = read(path)
    assert file.variables == {"A": Secret("1")}
    assert [str(note) for note in file.notes] == [
        "line 4: `=` is missing: left out",
        "line 5: GIT_CONFIG_GLOBAL: the task keeps its own, which the file cannot change: left out",
    ]


def test_the_output_of_env_is_recognised_by_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("M=0123\nA='x'\n")
    assert read(path).variables["A"] == Secret("'x'")
    path.write_text("M=other\nA='x'\n")
    assert read(path).variables["A"] == Secret("x")


def test_a_file_that_was_removed_exports_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "environment") == EnvironmentFile()


def test_what_is_no_sound_file_is_an_error_and_never_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read(path)
    path.unlink()
    path.write_bytes(b"#" * (MAX_ENVIRONMENT_FILE + 1))
    with pytest.raises(OSError, match="larger than"):
        read(path)


@pytest.mark.parametrize(("bad", "lines"), [(0, 0), (1, 1), (10, 10), (11, 11), (500, 11)])
def test_the_log_has_a_line_for_each_note_and_a_number_for_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: int, lines: int
) -> None:
    path = tmp_path / "environment"
    path.write_text("hidden\n" * bad)
    read(path).log_notes("run/1")
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == lines
    if bad:
        where = "Task run/1: the setup command's environment file"
        assert messages[0] == f"{where}, line 1: `=` is missing: left out"
    if bad > 10:
        assert messages[-1] == f"{where} has {bad - 10} more lines like these"
    assert "hidden" not in caplog.text
