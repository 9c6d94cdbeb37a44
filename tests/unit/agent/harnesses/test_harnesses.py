import pkgutil
from pathlib import Path

import pytest

from oz_agent_worker.agent import harnesses
from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.harnesses import HARNESSES, choose_harness
from oz_agent_worker.worker.backends.direct.environment import HARNESS_HOMES


def test_the_names_on_the_wire_are_kept() -> None:
    assert {"shell", "claude", "codex", "gemini", "opencode", "command"} <= HARNESSES.keys()
    assert not HARNESSES["shell"].natural_language


@pytest.mark.parametrize(
    ("asked", "of_run", "default", "name"),
    [
        ("", "", "", "shell"),
        ("", "oz", "", "shell"),
        ("", "", "claude", "claude"),
        ("", "OZ", " Codex ", "codex"),
        ("", "gemini", "claude", "gemini"),
        ("codex", "gemini", "claude", "codex"),
        ("oz", "gemini", "claude", "claude"),
        ("", "", "oz", "shell"),
    ],
)
def test_the_choice_of_a_harness(asked: str, of_run: str, default: str, name: str) -> None:
    assert choose_harness(asked, of_run, default).name == name


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AgentUsageError, match=f"'nope'; there are: {', '.join(HARNESSES)}$"):
        choose_harness("nope", "", "")


def test_every_module_of_a_harness_is_registered() -> None:
    modules = {module.name for module in pkgutil.iter_modules(harnesses.__path__)} - {"base"}
    assert sorted(modules - HARNESSES.keys()) == [], "add their HARNESS to harnesses/__init__.py"


def test_the_direct_backend_sets_the_homes_of_harnesses_only() -> None:
    assert HARNESS_HOMES.keys() <= HARNESSES.keys()


def test_every_harness_has_its_tests() -> None:
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert [name for name in HARNESSES if f"test_{name}.py" not in files] == []
