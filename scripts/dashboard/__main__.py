"""Write the dashboard into the chart."""

import json
import sys
from pathlib import Path
from typing import Final

from .grafana import dashboard
from .panels import ROWS

__all__ = ["FILE", "main", "written"]

FILE: Final = Path(__file__).parents[2] / "charts/oz-agent-worker/files/dashboard.json"


def written() -> str:
    """What the file should hold."""
    return json.dumps(dashboard("oz-agent-worker", ROWS), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write it; return the exit code."""
    FILE.write_text(written(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
