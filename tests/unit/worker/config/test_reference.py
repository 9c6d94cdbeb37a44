"""The generated config reference: complete, and the one that the documents show."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.config import reference, shapes
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.schema import key

DOCS = Path(__file__).parents[4] / "docs"


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


def test_a_row_a_key() -> None:
    span = "a duration such as 30s, 5m or 1h30m"
    assert reference.keys_table(Sample).splitlines() == [
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


@pytest.mark.parametrize("name", reference.SECTIONS)
def test_a_default_that_is_shown_is_one_that_can_be_written(name: str) -> None:
    section = reference.SECTIONS[name]
    rows = reference.keys_table(section).splitlines()[2:]
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
            node = yaml.compose(cell.strip("`"), Loader=yaml.SafeLoader)
            assert declared.metadata["shape"].decode(node, declared.name, problems) == default
            assert problems.found == []


@pytest.mark.parametrize("name", reference.SECTIONS)
def test_each_key_says_what_it_is_for_in_sentences(name: str) -> None:
    for declared in dataclasses.fields(reference.SECTIONS[name]):
        doc = declared.metadata["doc"]
        assert doc[0].isupper() or doc[0].isdigit()
        assert doc.endswith(".")


def test_only_what_stands_between_the_comments_is_written() -> None:
    begin, end = "<!-- keys of backend.command, written by `make docs` -->", "<!-- end of the keys -->"
    document = f"before\n{begin}\nold\n{end}\nafter <!-- end of the keys -->\n"
    table = reference.keys_table(reference.SECTIONS["backend.command"])
    assert (
        reference.with_tables(document) == f"before\n{begin}\n{table}{end}\nafter <!-- end of the keys -->\n"
    )
    with pytest.raises(KeyError):
        reference.with_tables(document.replace("backend.command", "backend.none"))


def test_the_documents_show_the_schema_as_it_is() -> None:
    shown = {path: path.read_text() for path in DOCS.glob("*.md")}
    for path, text in shown.items():
        assert text == reference.with_tables(text), f"{path.name} is behind the schema: run `make docs`"
    assert any("<!-- keys of backend.kubernetes," in text for text in shown.values())
    assert any("<!-- keys of the file," in text for text in shown.values())


def test_main_writes_the_files_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("<!-- keys of the file, written by `make docs` -->\n<!-- end of the keys -->\n")
    reference.main([str(path)])
    assert "| `worker_id` |" in path.read_text()
