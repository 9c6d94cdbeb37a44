"""What fits on a command line (K12)."""

import os
import subprocess

import pytest

from oz_agent_worker.contract import MAX_ARGUMENT_BYTES, argument_name, exec_problem

LONG = "x" * MAX_ARGUMENT_BYTES


@pytest.mark.parametrize(
    ("arguments", "position", "name"),
    [
        (("--mcp", "{}"), 1, "the value of --mcp"),
        (("--mcp={}",), 0, "the value of --mcp"),
        (("agent", "run"), 1, "argument 2"),
        (("secret=value",), 0, "argument 1"),
        (("--key sword", "fish"), 1, "argument 2"),
        (("-c", "x"), 1, "the value of -c"),
    ],
)
def test_an_argument_is_named_without_its_value(arguments: tuple[str, ...], position: int, name: str) -> None:
    """K12: arguments hold keys."""
    assert argument_name(arguments, position) == name


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("a", "--mcp", LONG), {}, "the value of --mcp has 131072 bytes, and Linux passes 131071"),
        (("a", "é" * 65536), {}, "argument 2 has 131072 bytes"),
        (("a",), {"KEY": LONG}, "the variable KEY has 131076 bytes with its name, and Linux passes 131071"),
        (("a",), {"KEY": LONG[5:]}, None),
        (("a",), {"KEY": LONG[4:]}, "the variable KEY has 131072 bytes"),
        (("a", LONG[1:]), {}, None),
        (("a", "\ud83c" * 43690), {}, None),
    ],
)
def test_one_argument_and_one_variable_have_a_limit(
    arguments: tuple[str, ...], variables: dict[str, str], said: str | None
) -> None:
    """K12: by the byte."""
    problem = exec_problem(arguments, ((n, len(v.encode())) for n, v in variables.items()))
    assert (problem is None) if said is None else (problem is not None and problem.startswith(said))
    assert problem is None or "xxx" not in problem


def test_all_together_have_a_limit() -> None:
    """K12: each string counts with its zero and the pointer to it."""
    arguments, variables = ("a", "--big", "x" * 100), [("KEY", 50)]
    whole = (2 + 8) + (6 + 8) + (101 + 8) + (3 + 1 + 50 + 1 + 8)
    assert exec_problem(arguments, variables, whole) is None
    problem = exec_problem(arguments, variables, whole - 1)
    assert problem is not None
    assert f"{whole} bytes together, and Linux passes {whole - 1} at most" in problem
    assert "the largest is the value of --big with 100 bytes" in problem


@pytest.mark.parametrize("too_long", [False, True])
@pytest.mark.parametrize("kind", ["argument", "variable"])
def test_the_limit_is_that_of_the_kernel(kind: str, too_long: bool) -> None:
    """K12: held against this machine's own kernel."""
    length = MAX_ARGUMENT_BYTES - (0 if too_long else 1) - (len("KEY=") if kind == "variable" else 0)
    arguments = ["true", "x" * length] if kind == "argument" else ["true"]
    environment = {"KEY": "x" * length} if kind == "variable" else {}
    sizes = [(name, len(value)) for name, value in environment.items()]
    assert (exec_problem(arguments, sizes) is not None) == too_long
    try:
        subprocess.run(arguments, env={"PATH": os.defpath} | environment, check=True)
        started = True
    except OSError:
        started = False
    assert started != too_long
