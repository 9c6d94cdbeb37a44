"""Which branches of a chart's templates are taken: its templates are copied with a note at each.

Every ``if`` and ``with`` gets a note at its beginning, at each ``else`` and, where there is
none, at an ``else`` of its own. A note sets a key below ``$.Values``, which Helm hands to all
templates as one and the same map; a template that is rendered last prints them. Branches
that end in ``fail`` are left out: nothing can be printed after them. So is the template that brings
the values into form: its parts are called with single values, where no note can be set.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["Instrumented", "branches_taken", "instrument", "instrumented_text"]

_ACTION: Final = re.compile(r"\{\{(?P<left>-?)\s*(?P<body>/\*.*?\*/|.*?)\s*(?P<right>-?)\}\}", re.DOTALL)
_FAIL: Final = re.compile(r"\s*\{\{-?\s*fail ")
_NOTES: Final = "branchesTaken"
_WITHOUT_VALUES: Final = "_values.tpl"
_PRINTED: Final = """\
apiVersion: v1
kind: Branches
taken: {{ .Values.NOTES | toJson }}
"""


@dataclass(frozen=True, slots=True)
class Instrumented:
    """A chart's copy in ``folder``, with the names of all its branches."""

    folder: Path
    branches: frozenset[str]


def instrument(chart: Path, folder: Path) -> Instrumented:
    """Copy a chart into ``folder`` with notes at its branches."""
    shutil.copytree(chart, folder)
    templates = folder / "templates"
    # Helm renders deeper folders first.
    deeper = templates / "deeper/and/deeper"
    names: set[str] = set()
    for path in sorted(chart.glob("templates/**/*.*")):
        name = str(path.relative_to(chart / "templates"))
        text, found = path.read_text(encoding="utf-8"), set[str]()
        if name != _WITHOUT_VALUES:
            text, found = instrumented_text(text, name)
        names |= found
        (templates / name).unlink()
        (deeper / name).parent.mkdir(parents=True, exist_ok=True)
        (deeper / name).write_text(text, encoding="utf-8")
    (templates / "branches.yaml").write_text(_PRINTED.replace("NOTES", _NOTES), encoding="utf-8")
    _allow_notes(folder)
    return Instrumented(folder, frozenset(names))


def instrumented_text(text: str, name: str) -> tuple[str, set[str]]:
    """Return a template with notes, and the names of its branches: ``file:line:word``."""
    pieces: list[str] = []
    names: set[str] = set()
    blocks: list[_Block] = []
    last = 0
    for found in _ACTION.finditer(text):
        word = found["body"].split(maxsplit=1)[0] if found["body"] else ""
        line = text.count("\n", 0, found.start()) + 1
        pieces.append(text[last : found.start()])
        last = found.end()
        if word == "end":
            block = blocks.pop()
            if block.is_choice and not block.has_else:
                pieces.append(_noted("{{" + found["left"] + " else }}", f"{name}:{block.line}:not", names))
        pieces.append(found.group())
        if word in {"if", "with", "range", "define", "block"}:
            blocks.append(_Block(line, word in {"if", "with"}))
        if word == "else" and blocks[-1].is_choice:
            blocks[-1].has_else |= found["body"] == "else"
        elif word not in {"if", "with"}:
            continue
        if not _FAIL.match(text, last):
            pieces[-1] = _noted(pieces[-1], f"{name}:{line}:{word}", names)
    return "".join(pieces) + text[last:], names


@dataclass(slots=True)
class _Block:
    line: int
    is_choice: bool
    has_else: bool = False


def _noted(action: str, branch: str, names: set[str]) -> str:
    """Add a note to an action that opens a branch; white space is trimmed as before."""
    names.add(branch)
    right = "-" if action.endswith("-}}") else ""
    return f'{action}{{{{- $_ := set $.Values.{_NOTES} "{branch}" true {right}}}}}'


def _allow_notes(folder: Path) -> None:
    """Give the notes their place among the values."""
    (folder / "values.schema.json").unlink()
    with (folder / "values.yaml").open("a", encoding="utf-8") as values:
        values.write(f"\n{_NOTES}: {{}}\n")
    known = folder / "files/schema.yaml"
    schema = yaml.safe_load(known.read_text(encoding="utf-8"))
    schema["values"][_NOTES] = {"kind": "any", "default": {}}
    known.write_text(yaml.safe_dump(schema), encoding="utf-8")


def branches_taken(objects: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the branches that a rendering of an instrumented chart took."""
    return frozenset(name for found in objects if found["kind"] == "Branches" for name in found["taken"])
