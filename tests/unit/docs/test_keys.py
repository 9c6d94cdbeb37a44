"""The tables of config keys: complete, with defaults as an operator would write them."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.config import shapes
from oz_agent_worker.worker.config.dialect import Loader
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.schema import key
from scripts.docs.tables import SECTIONS, keys_table


@dataclass(frozen=True, kw_only=True)
class Sample:
    needed: str = key(shapes.text(), "Must be given.")
    empty: str | None = key(shapes.text(), "May be left out.", None)
    flag: bool = key(shapes.boolean(), "One | the other.", False)
    number: int = key(shapes.integer(minimum=0), "A number.", 0)
    names: tuple[str, ...] = key(shapes.list_of(shapes.text()), "Names.", ())
    things: Any = key(shapes.raw_mapping(), "Things.", {})  # noqa: RUF009
    more: Any = key(shapes.raw_mapping(), "More things.", {"a": {"b": "1"}})  # noqa: RUF009
    short: float = key(shapes.duration(), "A moment.", 60.0)
    long: float = key(shapes.duration(), "A while.", 600.0)
    off: float = key(shapes.duration(), "No time.", 0.0)


def test_the_table_has_a_row_for_each_key() -> None:
    span = "a duration such as 30s, 5m or 1h30m"
    assert keys_table(Sample).splitlines() == [
        "| key | default | allowed | meaning |",
        "| --- | --- | --- | --- |",
        "| `needed` | required | a string | Must be given. |",
        "| `empty` |  | a string | May be left out. |",
        "| `flag` | `false` | true or false | One \\| the other. |",
        "| `number` | `0` | a whole number, 0 or more | A number. |",
        "| `names` |  | a list of a string | Names. |",
        "| `things` |  | a mapping | Things. |",
        '| `more` | `{"a": {"b": "1"}}` | a mapping | More things. |',
        f"| `short` | `60s` | {span} | A moment. |",
        f"| `long` | `10m` | {span} | A while. |",
        f"| `off` | `0s` | {span} | No time. |",
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_defaults_in_the_table_are_valid_values(name: str) -> None:
    section = SECTIONS[name]
    rows = keys_table(section).splitlines()[2:]
    fields = dataclasses.fields(section)
    assert len(rows) == len(fields)
    for row, declared in zip(rows, fields, strict=True):
        cell = row.split(" | ")[1]
        if cell.startswith("`"):
            default = (
                declared.default_factory()
                if declared.default_factory is not dataclasses.MISSING
                else declared.default
            )
            problems = Problems("reference")
            node = yaml.compose(cell.strip("`"), Loader=Loader)
            assert declared.metadata["shape"].decode(node, declared.name, problems) == default
            assert problems.found == []


@pytest.mark.parametrize("name", SECTIONS)
def test_each_key_has_a_description_in_sentences(name: str) -> None:
    for declared in dataclasses.fields(SECTIONS[name]):
        doc = declared.metadata["doc"]
        assert doc[0].isupper() or doc[0].isdigit()
        assert doc.endswith(".")
