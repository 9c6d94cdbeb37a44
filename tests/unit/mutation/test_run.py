from pathlib import Path

import pytest

from tests.mutation.run import BROKEN, FAILED, HANGS, PASSED, run_tests

MODULE = "oz_agent_worker.common.durations"


@pytest.fixture
def test_file(tmp_path: Path) -> str:
    path = tmp_path / "test_durations.py"
    path.write_text(f"from {MODULE} import short_span\ndef test_it():\n    assert short_span(5) == '5s'\n")
    return str(path)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("def short_span(seconds):\n    return f'{seconds}s'\n", PASSED),
        ("def short_span(seconds):\n    return 'long'\n", FAILED),
        ("def short_span(seconds):\n    raise SystemExit(0)\n", FAILED),
        ("1 / 0\n", BROKEN),
        ("import os, signal\nos.kill(0, signal.SIGKILL)\n", HANGS),
    ],
)
def test_what_the_tests_say_of_a_module(test_file: str, source: str, result: int) -> None:
    assert run_tests(MODULE, source, [test_file]) == result


def test_a_run_without_tests_is_an_error_and_no_finding(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="pytest ends with"):
        run_tests(MODULE, "", [str(tmp_path)])
