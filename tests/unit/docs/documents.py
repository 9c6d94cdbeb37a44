"""The documents a reader sees, and their contents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.docs.parts import DOCS, ROOT

__all__ = ["DOCUMENTS", "Block", "anchors", "blocks", "commands", "marked", "read", "table_column"]

#: README.md and every page of the site.
DOCUMENTS: Final = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))

_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w{}-]*)\n(?P<content>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_HEADING: Final = re.compile(r"^#+ (?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its fence."""

    document: Path
    line: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def read(document: Path) -> str:
    """Its text."""
    return document.read_text(encoding="utf-8")


def blocks(document: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of these languages, or all."""
    text = read(document)
    for found in _FENCE.finditer(text):
        if not languages or found["language"] in languages:
            content = re.sub(f"^{found['indent']}", "", found["content"], flags=re.MULTILINE)
            yield Block(document, text.count("\n", 0, found.start()) + 1, found["language"], content)


def commands(program: str) -> list[tuple[Block, str]]:
    """Every line of a shell block that runs a program, continuation lines joined, comments cut.

    In a block without a language two or more spaces begin a comment.
    """
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh", ""):
            for line in block.content.replace("\\\n", " ").splitlines():
                command = re.sub(r"(?:^|\s)#.*| &$|^\$ ", "", line).strip()
                command = command if block.language else re.split(r" {2,}", command)[0]
                # Of a command inside another's Pod, and of a pipe, the program's own part counts.
                parts = re.split(r" -- +| \| ", command)
                ours = [part for part in parts if re.match(rf"(?:\w+=\S* )*{program}(?: |$)", part)]
                found += [(block, part[part.index(program) :]) for part in ours]
    return found


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    text = _FENCE.sub("", read(document))
    found: set[str] = set()
    for heading in _HEADING.finditer(text):
        plain = re.sub(r"[^\w -]", "", heading["text"].lower()).replace(" ", "-")
        number = 1
        anchor = plain
        while anchor in found:
            anchor, number = f"{plain}-{number}", number + 1
        found.add(anchor)
    return found


def marked(document: Path, name: str, end: str) -> str:
    """The text between two comments."""
    return read(document).partition(f"<!-- {name} -->\n")[2].partition(f"<!-- {end} -->")[0]


def table_column(table: str, column: int = 0) -> list[str]:
    """The names in code font in a column of a table, in order."""
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[column])]
