"""What follows from a chart's values.schema.yaml: values, their schema and defaults, and the reference.

``python -m scripts.docs write`` (``make docs``) writes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .source import read_source
from .written import reference, schema_json, template_yaml, values_yaml

__all__ = ["CHARTS", "chart_files", "chart_reference"]

#: Each chart's folder, and the document with its reference.
CHARTS: Final[Mapping[str, str]] = {
    "charts/oz-agent-worker": "docs/chart.md",
    "charts/oz-control-plane": "docs/chart-control-plane.md",
}


def chart_files(folder: Path) -> dict[Path, str]:
    """The generated files of a chart, with what each should hold.

    Raises:
        SourceError: the chart's source is not complete.
    """
    source = read_source(folder / "values.schema.yaml")
    return {
        folder / "values.yaml": values_yaml(source),
        folder / "values.schema.json": schema_json(source),
        folder / "files/schema.yaml": template_yaml(source),
    }


def chart_reference(folder: Path) -> str:
    """The tables of a chart's values. Raises SourceError as ``chart_files`` does."""
    return reference(read_source(folder / "values.schema.yaml"))
