"""The chart's alert rules, as they are in its file."""

from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["ALERTS_FILE", "DASHBOARD_FILE", "alert_rules"]

FILES: Final = Path(__file__).parents[2] / "charts/oz-agent-worker/files"
ALERTS_FILE: Final = FILES / "alerts.yaml"
DASHBOARD_FILE: Final = FILES / "dashboard.json"


def alert_rules() -> list[dict[str, Any]]:
    """Return the rules of all groups."""
    content = yaml.safe_load(ALERTS_FILE.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]
