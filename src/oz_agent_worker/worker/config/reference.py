"""The config reference: a Markdown table for each section, written from the schema.

``python -m oz_agent_worker.worker.config.reference FILE…`` writes the tables of a document anew.
Each stands between two comments that name its section, as does the table of the failure
reasons (``core.failureguide``)::

    <!-- keys of backend.kubernetes, written by `make docs` -->
    <!-- end of the keys -->
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from oz_agent_worker.protocol.failure_guide import guide_table

from .schema import CommandConfig, DirectConfig, DockerConfig, FileConfig, KubernetesConfig
from .shapes import Shape

__all__ = ["SECTIONS", "keys_table", "main", "with_tables"]

#: The sections of a config file, by their paths; the root's is ``the file``.
SECTIONS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "the file": FileConfig,
        "backend.docker": DockerConfig,
        "backend.direct": DirectConfig,
        "backend.command": CommandConfig,
        "backend.kubernetes": KubernetesConfig,
    }
)

_TABLE: Final = re.compile(
    r"(?P<begin><!-- keys of (?P<section>[^,]+), written by `make docs` -->\n).*?"
    r"(?P<end><!-- end of the keys -->)",
    re.DOTALL,
)

_FAILURES: Final = re.compile(
    r"(?P<begin><!-- failure reasons, written by `make docs` -->\n).*?"
    r"(?P<end><!-- end of the failure reasons -->)",
    re.DOTALL,
)


def keys_table(section: type) -> str:
    """Write the table of a section's keys, in the schema's order, ending in a newline."""
    rows = ("| key | default | allowed | meaning |", "| --- | --- | --- | --- |", *_rows(section))
    return "\n".join(rows) + "\n"


def _rows(section: type) -> Iterator[str]:
    for declared in dataclasses.fields(section):
        shape: Shape[Any] = declared.metadata["shape"]
        cells = (f"`{declared.name}`", _default(declared), shape.describe, declared.metadata["doc"])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(declared: dataclasses.Field[Any]) -> str:
    if declared.default_factory is not dataclasses.MISSING:
        value = declared.default_factory()
    elif declared.default is dataclasses.MISSING:
        return "required"
    else:
        value = declared.default
    if value is None or value in ("", (), {}) or dataclasses.is_dataclass(value):
        return ""
    return f"`{_as_yaml(value)}`"


def _as_yaml(value: Any) -> str:
    """Write a default as an operator would: the schema's only floats are spans of time."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value / 60:g}m" if value > 60 and value % 60 == 0 else f"{value:g}s"
    return json.dumps(value)


def with_tables(document: str) -> str:
    """Write every table of a document anew.

    Raises:
        KeyError: a comment names no section of ``SECTIONS``.
    """
    document = _TABLE.sub(lambda m: m["begin"] + keys_table(SECTIONS[m["section"]]) + m["end"], document)
    return _FAILURES.sub(lambda m: m["begin"] + guide_table() + m["end"], document)


def main(paths: list[str]) -> None:
    """Write the tables of each of these files anew."""
    for path in map(Path, paths):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
