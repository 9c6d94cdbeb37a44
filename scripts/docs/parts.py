"""Every generated file of the repository, with what it should hold."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from scripts.chart_values import CHARTS, chart_files, chart_reference
from scripts.dashboard import DASHBOARD, dashboard_json

from . import tables
from .commandline import commands, options_table
from .markdown import replace_parts

__all__ = ["DOCS", "PARTS", "ROOT", "behind", "current"]

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

#: What makes each generated part of a document, by the name in its comment.
PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "alerts": tables.alert_table,
    **{name: partial(str, text) for name, text in tables.api_tables().items()},
    "harnesses": tables.harness_table,
    "metrics": tables.metric_table,
    "failure reasons": tables.failure_table,
    "entries for failure reasons": tables.failure_entries,
    "public failure reasons": tables.public_reasons_table,
    **{f"keys of {name}": partial(tables.keys_table, kind) for name, kind in tables.SECTIONS.items()},
    **{f"options of {name}": partial(options_table, command) for name, command in commands().items()},
    **{f"values of {chart}": partial(chart_reference, ROOT / chart) for chart in CHARTS},
}


def current(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each generated file, or file with generated parts, and what it should hold."""
    for chart in CHARTS:
        yield from chart_files(root / chart).items()
    for path in sorted((root / "docs").glob("*.md")):
        yield path, replace_parts(path.read_text(encoding="utf-8"), PARTS)
    yield root / DASHBOARD, dashboard_json()


def behind(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """The generated files that do not hold what they should, and what that is."""
    for path, content in current(root):
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            yield path, content
