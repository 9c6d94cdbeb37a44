"""The user's commands where their input or their reader is not as it should be."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.programs import BIN, ControlPlane, control_plane, environment, oz


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
            timeout=60,
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
    ]
    for given in arguments:
        done = subprocess.run(
            [BIN / "oz-agent-worker", "run", *given],
            env=plane.env(),
            input=b"echo \xff",
            capture_output=True,
            timeout=60,
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
    assert done.stderr.startswith(f"error: {url!r} is no URL of a control plane")


def test_white_space_around_a_key_is_not_a_part_of_it(plane: ControlPlane) -> None:
    assert oz("runs", env={**plane.env(), "WARP_API_KEY": f" {plane.key}\n"}, check=False).returncode == 0
