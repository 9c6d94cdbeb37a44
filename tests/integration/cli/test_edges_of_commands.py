"""The user's commands where their input or their reader is not as it should be."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.programs import BIN, ControlPlane, control_plane, environment, oz
from tests.timeouts import HANG_TIMEOUT


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("state")) as running:
        yield running


def test_a_reader_that_went_away_is_no_failure(plane: ControlPlane) -> None:
    plane.oz("run", "echo hello")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [BIN / "oz-agent-worker", "runs"],
            env=plane.env(),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=HANG_TIMEOUT,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_prompt_that_is_no_text_is_refused_before_it_is_sent(plane: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_bytes(b"echo \xff")
    arguments: list[list[str | bytes | Path]] = [
        [b"echo \xff"],
        ["--file", file],
        ["--file", "-"],
        ["x", "--title", b"\xff"],
        ["x", "--host", b"\xff"],
        ["x", "--model", b"\xff"],
    ]
    for given in arguments:
        done = subprocess.run(
            [BIN / "oz-agent-worker", "run", *given],
            env=plane.env(),
            input=b"echo \xff",
            capture_output=True,
            timeout=HANG_TIMEOUT,
            check=False,
        )
        assert done.returncode == 2, given
        assert b"UTF-8" in done.stderr, given
        assert b"Traceback" not in done.stderr, given


def test_a_prompt_file_is_read_as_utf_8_whatever_the_locale(plane: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_text("# grüße 日本語", encoding="utf-8")
    env = {**plane.env(), "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert oz("run", "--file", str(file), env=env).returncode == 0
    assert plane.runs()[0]["prompt"] == "# grüße 日本語"


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "127.0.0.1:8080"])
def test_a_url_that_is_none_is_a_usage_error(url: str, tmp_path: Path) -> None:
    done = oz("runs", "--server", url, "--api-key", "k", env=environment(tmp_path), check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {url!r} is not the URL of a control plane")


def test_white_space_around_a_key_is_not_a_part_of_it(plane: ControlPlane) -> None:
    assert oz("runs", env={**plane.env(), "WARP_API_KEY": f" {plane.key}\n"}, check=False).returncode == 0


def _on_a_terminal(env: dict[str, str], *arguments: str) -> bytes:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [BIN / "oz-agent-worker", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            timeout=HANG_TIMEOUT,
            check=False,
        )
        return os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("arguments", [("runs",), ("runs", "nope")])
def test_colour_is_for_terminals_whose_user_wants_it(plane: ControlPlane, arguments: tuple[str, ...]) -> None:
    plane.oz("cancel", plane.oz("run", "true").stdout.split()[1])
    env = plane.env() | {"TERM": "xterm"}
    assert b"\x1b[" in _on_a_terminal(env, *arguments)
    assert b"\x1b" not in _on_a_terminal({**env, "NO_COLOR": "1"}, *arguments)
    assert b"\x1b" not in _on_a_terminal({**env, "TERM": "dumb"}, *arguments)


def test_what_others_wrote_cannot_steer_the_terminal(plane: ControlPlane) -> None:
    evil = "a\x1b]0;title\x07b\x9b31mc\r\nd"
    run_id = plane.oz("run", f"true #{evil}", "--title", evil, "--host", "h\x1b[2J").stdout.split()[1]
    for arguments in (("runs",), ("runs", run_id)):
        text = plane.oz(*arguments).stdout
        assert text.replace("\n", "").isprintable()
        assert "]0;title" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev", "--port", "99999"), "99999 is not in the range"),
        (("control-plane", "--port", "99999"), "99999 is not in the range"),
        (
            ("dev", "--data-dir", "{file}/folder"),
            "folder cannot be created: Not a directory",
        ),
        (("control-plane", "keys"), "{file}/oz-agent-worker cannot be created: Not a directory"),
    ],
)
def test_what_cannot_be_had_is_a_usage_error(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    given = [argument.format(file=file) for argument in arguments]
    done = oz(*given, env=environment(file), check=False)
    assert done.returncode == 2
    assert message.format(file=file) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("run", "hello", "--title", "a\udcff"), 2),
        (("runs", "a\udcff"), 2),
        (("logs", "a\udcff"), 2),
        (("cancel", "a\udcff"), 1),  # as with any run that it cannot cancel
    ],
)
def test_an_argument_whose_bytes_are_no_text_is_refused(
    plane: ControlPlane, arguments: tuple[str, ...], status: int
) -> None:
    """K8: Python reads such bytes as halves of characters, and no encoder takes these."""
    done = oz(*arguments, env=plane.env(), check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert "is not UTF-8 text" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_path_whose_bytes_are_no_text_is_escaped_in_json(plane: ControlPlane) -> None:
    done = oz("doctor", "--config-file", "/no/\udcff", "--output", "json", env=plane.env(), check=False)
    assert done.returncode == 3
    assert json.loads(done.stdout)["checks"][0]["detail"] == "config file /no/\udcff: no such file"
