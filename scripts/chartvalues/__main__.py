"""Write the generated files of every chart anew."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .source import read_source
from .written import defaults_yaml, reference, schema_json, values_yaml

__all__ = ["CHARTS", "generated", "main"]

ROOT: Final = Path(__file__).parents[2]

CHARTS: Final[Mapping[str, str]] = {
    "charts/oz-agent-worker": "docs/chart.md",
    "charts/oz-control-plane": "docs/chart-control-plane.md",
}
"""Each chart's folder, and the document with its reference."""

_REFERENCE: Final = re.compile(
    r"(?P<begin><!-- values of the chart, written by `make docs` -->\n).*?"
    r"(?P<end><!-- end of the values -->)",
    re.DOTALL,
)


def generated(folder: Path, document: Path) -> dict[Path, str]:
    """What each generated file of a chart should hold: wholly or, of the document, in part.

    Raises:
        SourceError: the chart's source is not complete.
    """
    source = read_source(folder / "values.schema.yaml")
    tables = reference(source)
    return {
        folder / "values.yaml": values_yaml(source),
        folder / "values.schema.json": schema_json(source),
        folder / "files/defaults.yaml": defaults_yaml(source),
        document: _REFERENCE.sub(
            lambda found: found["begin"] + tables + found["end"], document.read_text(encoding="utf-8")
        ),
    }


def main() -> int:
    """Write all of them; return the exit code."""
    for folder, document in CHARTS.items():
        for path, content in generated(ROOT / folder, ROOT / document).items():
            path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
