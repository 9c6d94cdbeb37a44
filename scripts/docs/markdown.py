"""Markdown: tables, and documents with generated parts.

A generated part is between two comments. The first one names it, and the next `end of` comment ends it::

    <!-- keys of backend.kubernetes, written by `make docs` -->
    <!-- end of the keys -->
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

__all__ = ["replace_parts", "table"]

_PART: Final = re.compile(
    r"(?P<begin><!-- (?P<name>[^,\n]+), written by `make docs` -->\n).*?(?P<end><!-- end of [^\n]+ -->)",
    re.DOTALL,
)


def replace_parts(document: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Replace every generated part of a document; ``parts`` makes the text of each by its name.

    Raises:
        KeyError: the document names a part that ``parts`` does not have.
    """
    return _PART.sub(lambda found: found["begin"] + parts[found["name"]]() + found["end"], document)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, each cell on one line and its pipes escaped; ends in a newline."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, cells))} |\n" for cells in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
