"""Writes the table of metrics: ``python -m oz_agent_worker.worker.telemetry.reference FILE…``.

The table stands between two comments::

    <!-- metrics, written by `make docs` -->
    <!-- end of the metrics -->
"""

import re
import sys
from pathlib import Path
from typing import Final

from .catalogue import metric_table

__all__ = ["main", "with_table"]

_TABLE: Final = re.compile(
    r"(?P<begin><!-- metrics, written by `make docs` -->\n).*?(?P<end><!-- end of the metrics -->)", re.DOTALL
)


def with_table(document: str) -> str:
    """Write the table of a document anew."""
    return _TABLE.sub(lambda m: m["begin"] + metric_table() + m["end"], document)


def main(paths: list[str]) -> None:
    """Write the table of each of these files anew."""
    for path in map(Path, paths):
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
