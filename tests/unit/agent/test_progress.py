import sys

import pytest

from oz_agent_worker.agent.progress import hiding, plain, say, silent


def test_lines_go_to_stderr_with_their_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    silent("nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "oz-agent: hello\n")


def test_a_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8", closefd=True) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        say("hello")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()


def test_text_from_elsewhere_becomes_one_plain_line() -> None:
    assert plain("a\nb\t c\x1b[0m") == "a b c [0m"
    assert plain("x" * 500, 10) == "x" * 9 + "…"


def test_a_secret_is_replaced() -> None:
    lines: list[str] = []
    hiding("hush", lines.append)("it said hush")
    hiding("", lines.append)("as it is")
    assert lines == ["it said ***", "as it is"]
