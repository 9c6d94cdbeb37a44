import sys

import pytest

from oz_agent_worker.agent.log import log_nothing, log_to_stderr, redacted, single_line


def test_lines_go_to_stderr_with_their_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("hello")
    log_nothing("nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "oz-agent: hello\n")


def test_a_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8", closefd=True) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        log_to_stderr("hello")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()


def test_foreign_text_becomes_one_printable_line() -> None:
    assert single_line("a\nb\t c\x1b[0m") == "a b c [0m"
    assert single_line("x" * 500, 10) == "x" * 9 + "…"


def test_a_secret_is_replaced() -> None:
    lines: list[str] = []
    redacted(lines.append, "hush")("it said hush")
    redacted(lines.append, "")("as it is")
    assert lines == ["it said ***", "as it is"]
