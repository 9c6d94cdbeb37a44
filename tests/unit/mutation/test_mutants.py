import pytest

from tests.mutation.__main__ import module_of, mutants_in
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import in_order, mutants_of
from tests.mutation.packages import mutated_packages, paths_for


def changes(body: str) -> set[tuple[str, str]]:
    source = f"def f(a: int = 1, b: bool = True) -> bool:\n    {body}\n"
    return {(m.before, m.after) for m in mutants_of("m", source)}


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        ("return a < 3", "a < 3", "(a <= 3)"),
        ("return a is None", "a is None", "(a is not None)"),
        ("return a and b", "a and b", "(a or b)"),
        ("return not b", "not b", "(b)"),
        ("return a + 2", "a + 2", "(a - 2)"),
        ("return a + 2", "2", "3"),
        ("return True", "True", "False"),
        ("return 1 if b else 2", "1 if b else 2", "(2 if b else 1)"),
    ],
)
def test_each_operator_makes_its_fault(body: str, before: str, after: str) -> None:
    assert (before, after) in changes(body)


def test_what_is_no_code_of_the_function_is_left_alone() -> None:
    assert changes('"""Return 1."""') == set()
    assert changes("x: int = a") == set()
    assert changes('return "a" + f"{a}"') == set()
    assert changes("return zip(a, b, strict=True)") == set()
    assert changes("assert a > 1 and b") == set()


def test_a_mutant_is_the_module_with_one_change() -> None:
    source = "# é\ndef f(a):\n    return 'é', a > 1, a > 1\n"
    first, second = [m for m in mutants_of("m", source) if m.after == "(a >= 1)"]
    assert first.source == "# é\ndef f(a):\n    return 'é', (a >= 1), a > 1\n"
    assert second.source == "# é\ndef f(a):\n    return 'é', a > 1, (a >= 1)\n"
    assert (first.name, second.name) == ("m:f: a > 1 -> (a >= 1)", "m:f: a > 1 -> (a >= 1) (2)")


def test_the_choice_depends_on_what_is_mutated_alone() -> None:
    one = list(mutants_of("m", "def f(a):\n    return a > 1 or a < 7\n"))
    moved = list(mutants_of("m", "\n\ndef g(a):\n    return None\n\ndef f(a):\n    return a > 1 or a < 7\n"))
    assert [m.name for m in in_order(one)] == [m.name for m in in_order(moved)]


def test_every_pure_module_is_there_and_has_tests() -> None:
    for files in mutated_packages().values():
        for file in files:
            assert file.is_file()
            own, others = paths_for(module_of(file))
            assert own + others
            assert not set(own) & set(others)


def test_what_counts_as_equivalent_is_a_mutant() -> None:
    files = [file for files in mutated_packages().values() for file in files]
    names = {m.name for file in files for m in mutants_of(module_of(file), file.read_text())}
    assert set(EQUIVALENT) <= names
    assert not {m.name for m in mutants_in(files)} & set(EQUIVALENT)
