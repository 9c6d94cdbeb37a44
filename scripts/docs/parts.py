"""Every generated file of the documentation, with what it should hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.config.reference import with_tables
from oz_agent_worker.worker.telemetry.reference import with_table
from scripts.chartvalues.__main__ import CHARTS, generated
from scripts.dashboard.__main__ import FILE as DASHBOARD
from scripts.dashboard.__main__ import written as dashboard

from .alerts import with_alerts
from .commandline import with_options
from .failures import with_entries

__all__ = ["DOCS", "ROOT", "behind", "current", "written_anew"]

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"


def written_anew(document: str) -> str:
    """A document of docs/ with its tables and entries written from the code as it stands."""
    for write in (with_tables, with_table, with_options, with_entries, with_alerts):
        document = write(document)
    return document


def current(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Each generated file, or file with generated parts, and what it should hold."""
    for folder, reference in CHARTS.items():
        yield from generated(root / folder, root / reference).items()
    for path in sorted((root / "docs").glob("*.md")):
        if path.relative_to(root).as_posix() not in CHARTS.values():
            yield path, written_anew(path.read_text(encoding="utf-8"))
    yield root / DASHBOARD.relative_to(ROOT), dashboard()


def behind(root: Path = ROOT) -> list[Path]:
    """The files that do not hold what they should."""
    return [
        path
        for path, content in current(root)
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]
