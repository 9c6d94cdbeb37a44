"""The table of the worker's alerts, from the rules themselves.

It stands between two comments::

    <!-- alerts, written by `make docs` -->
    <!-- end of the alerts -->
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["RULES", "alert_table", "with_alerts"]

RULES: Final = Path(__file__).parents[2] / "charts/oz-agent-worker/files/alerts.yaml"

_TABLE: Final = re.compile(
    r"(?P<begin><!-- alerts, written by `make docs` -->\n).*?(?P<end><!-- end of the alerts -->)", re.DOTALL
)
#: What an operator may tune; a comparison with ``==`` is none.
_THRESHOLD: Final = re.compile(r">=? ([0-9.]+)$")


def alert_table() -> str:
    """Write all alerts as a Markdown table, ending in a newline."""
    lines = ("| alert | severity | for | threshold |", "| --- | --- | --- | --- |", *map(_row, _rules()))
    return "\n".join(lines) + "\n"


def _rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def _row(rule: dict[str, Any]) -> str:
    name = rule["alert"]
    threshold = _THRESHOLD.search(rule["expr"])
    cells = (f"[`{name}`](#{name.lower()})", rule["labels"]["severity"], rule["for"])
    return f"| {' | '.join(cells)} | {threshold[1] if threshold else ''} |"


def with_alerts(document: str) -> str:
    """Write the table of a document anew."""
    return _TABLE.sub(lambda found: found["begin"] + alert_table() + found["end"], document)
