import pytest

from oz_agent_worker.agent.errors import UsageError
from oz_agent_worker.agent.harnesses import HARNESSES, choose_harness


def test_the_harnesses_that_there_are() -> None:
    assert list(HARNESSES) == ["shell", "claude", "codex", "gemini", "opencode", "command"]
    assert [name for name, harness in HARNESSES.items() if not harness.speaks] == ["shell"]


@pytest.mark.parametrize(
    ("asked", "of_run", "default", "name"),
    [
        (None, "", "", "shell"),
        (None, "oz", "", "shell"),
        (None, "", "claude", "claude"),
        (None, "OZ", " Codex ", "codex"),
        (None, "gemini", "claude", "gemini"),
        ("codex", "gemini", "claude", "codex"),
        ("oz", "gemini", "claude", "claude"),
        (None, "", "oz", "shell"),
    ],
)
def test_who_chooses(asked: str | None, of_run: str, default: str, name: str) -> None:
    assert choose_harness(asked, of_run, default).name == name


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match="'nope'; there are: shell, claude, codex, gemini, opencode, command"
    ):
        choose_harness("nope", "", "")
