"""CONTRIBUTING.md names files, targets and tests that there are, and each step that can fail has its test."""

import ast
import re
from pathlib import Path

import pytest

from scripts.docs.parts import ROOT
from tests.unit.docs.documents import read

GUIDE = ROOT / "CONTRIBUTING.md"
RECIPES = (
    "A failure reason",
    "A metric",
    "A key of the config file",
    "A harness",
    "An endpoint",
    "A backend",
)
#: Text between backquotes that looks like a path of the repository.
PATH = re.compile(r"`((?:src|tests|docs|charts|scripts|examples)/[\w./-]+)(?:::(\w+))?`")


def recipes() -> dict[str, list[str]]:
    """Each recipe's steps."""
    parts = re.split(r"^### (.*)$", read(GUIDE).partition("## Six recipes")[2], flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^\d\. .*?(?=^\d\. |\Z)", text, flags=re.MULTILINE | re.DOTALL)
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def functions(path: Path) -> set[str]:
    """The functions of a test file."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", sorted({path for path, _ in PATH.findall(read(GUIDE))}))
def test_a_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "test"), sorted({found for found in PATH.findall(read(GUIDE)) if found[1]}))
def test_a_test_that_holds_a_step_is_there(path: str, test: str) -> None:
    assert test in functions(ROOT / path)


def test_there_are_six_recipes() -> None:
    titles = list(recipes())
    assert len(titles) == len(RECIPES)
    assert all(any(title.startswith(recipe) for title in titles) for recipe in RECIPES)


def test_every_recipe_is_held_by_tests() -> None:
    bare = {title: [step for step in steps if "Held by" not in step] for title, steps in recipes().items()}
    assert {title: len(steps) for title, steps in bare.items() if len(steps) > 1} == {}


def test_targets_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z0-9-]+)", read(GUIDE))) <= targets
