from collections.abc import Iterator

import pytest
import yaml

from oz_agent_worker.worker.config.dialect import Loader
from oz_agent_worker.worker.config.nodes import Problems, entries, node_at, plain, shown, value_at


def read(text: str) -> tuple[dict[str, object], list[str]]:
    """The entries of the mapping at ``m``, and what is wrong with it."""
    problems = Problems("f.yaml")
    node = value_at(yaml.compose(text, Loader=Loader), "m")
    assert node is not None
    return {name: plain(value) for name, _, value in entries(node, "m", problems)}, problems.found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("m: {a: 1, b: x}", {"a": 1, "b": "x"}),
        ("m:", {}),
        ("base: &b {a: 1, b: 2}\nm: {<<: *b, b: 3}", {"b": 3, "a": 1}),
        ("x: &x {a: 1}\ny: &y {a: 2, c: 2}\nm: {<<: [*x, *y]}", {"a": 1, "c": 2}),
        ("x: &x {a: 1}\ny: &y {<<: *x, b: 2}\nm: {<<: *y}", {"b": 2, "a": 1}),
        ("m: &m {<<: *m, a: 1}", {"a": 1}),
        ("m: {<<: {? [a] : 1}}", {"?": 1}),
    ],
)
def test_entries(text: str, found: dict[str, object]) -> None:
    assert read(text) == (found, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("m: [1]", "f.yaml:1: m: read a list, allowed is a mapping"),
        ("m:\n  a: 1\n  a: 2", "f.yaml:3: m.a: this key is repeated"),
        ("m:\n  <<: no", "f.yaml:2: m.<<: read 'no', allowed is a mapping, or a list of mappings"),
        ("m:\n  <<: [1]", "f.yaml:2: m.<<: read 1, allowed is a mapping, or a list of mappings"),
    ],
)
def test_a_value_that_is_no_mapping_is_reported(text: str, problem: str) -> None:
    assert read(text)[1] == [problem.replace("'no'", shown(yaml.safe_load("no")))]


def values() -> Iterator[tuple[object, str]]:
    yield {"a": 1}, "a mapping"
    yield [1], "a list"
    yield None, "nothing"
    yield True, "true"
    yield "x", "'x'"
    yield "x" * 100, "'" + "x" * 76 + "..."


@pytest.mark.parametrize(("value", "text"), list(values()))
def test_a_quoted_value_is_short(value: object, text: str) -> None:
    assert shown(value) == text


DEEP = """\
a:
  b:
    - name: x
      v: 1
    -
      name: task
      v: {k: 2}
  c:
    <<:
      d: 3
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.b", 3),
        ("a.b[0].v", 4),
        ("a.b[1].name", 6),
        ("a.b[task].v.k", 7),
        ("a.c.d", 10),
        # The nearest above what is not there.
        ("a.b[task].w.x", 6),
        ("a.b[2].v", 3),
        ("a.b[none]", 3),
        ("a.b[0].v[0]", 4),
        ("z", 1),
        ("", 1),
    ],
)
def test_the_line_of_a_path(path: str, line: int) -> None:
    problems = Problems("f.yaml", root=yaml.compose(DEEP, Loader=Loader))
    assert problems.line_of(path) == f"f.yaml:{line}: "


def test_without_a_file_there_is_no_line() -> None:
    assert Problems("command line").line_of("a.b") == ""
    assert node_at(None, "a") is None
