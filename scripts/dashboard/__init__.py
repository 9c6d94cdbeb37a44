"""The Grafana dashboard of the worker; ``python -m scripts.docs write`` writes it into the chart."""

import json
from typing import Final

from .grafana import dashboard
from .panels import ROWS

__all__ = ["DASHBOARD", "dashboard_json"]

DASHBOARD: Final = "charts/oz-agent-worker/files/dashboard.json"


def dashboard_json() -> str:
    """What the file ``DASHBOARD`` should hold."""
    return json.dumps(dashboard("oz-agent-worker", ROWS), indent=2, ensure_ascii=False) + "\n"
