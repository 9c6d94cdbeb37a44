"""The JSON model of a dashboard, as Grafana loads it.

Source: grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from .model import Panel, Row

__all__ = ["dashboard"]

#: Grafana migrates what is older, and loads it as it stands where it is newer.
SCHEMA_VERSION: Final = 41
UID: Final = "oz-agent-worker"
_COLUMNS: Final = 24
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

_Json = dict[str, Any]


def dashboard(title: str, rows: Iterable[Row]) -> _Json:
    """Make the model."""
    return {
        "uid": UID,
        "title": title,
        "description": "What workers do, what fails and why, and how they get on with the control plane"
        " and the Kubernetes API.",
        "tags": ["oz-agent-worker"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _worker_id()]},
        "panels": list(_placed(rows)),
    }


def _datasource() -> _Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _worker_id() -> _Json:
    query = "label_values(oz_worker_info, worker_id)"
    return {
        "name": "worker_id",
        "label": "Worker",
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "workers"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "options": [],
        "refresh": 2,
        "regex": "",
        "sort": 1,
    }


def _placed(rows: Iterable[Row]) -> Iterator[_Json]:
    """Give each row and panel its number and its place."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": y},
            "panels": [],
        }
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel) -> _Json:
    made = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "targets": list(_targets(panel)),
        "fieldConfig": {"defaults": _field(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
    }
    return made | ({"transformations": [_organized(panel)]} if panel.columns else {})


def _targets(panel: Panel) -> Iterator[_Json]:
    for number, target in enumerate(panel.targets):
        yield {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "editorMode": "code",
            "expr": target.expr,
            "legendFormat": target.legend or "__auto",
            "instant": target.instant,
            "range": not target.instant,
            "format": "table" if panel.kind == "table" else "time_series",
        }


def _field(panel: Panel) -> _Json:
    steps = [{"color": step.color, "value": step.value} for step in panel.steps]
    field: _Json = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.steps else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps or [{"color": "green", "value": None}]},
        "mappings": _mappings(panel),
        "custom": _drawing(panel),
    }
    limits = {"min": panel.low, "max": panel.high, "decimals": panel.decimals}
    return field | {name: value for name, value in limits.items() if value is not None}


def _mappings(panel: Panel) -> list[_Json]:
    texts = {value: {"index": n, "text": text} for n, (value, text) in enumerate(panel.texts)}
    return [{"type": "value", "options": texts}] if texts else []


def _drawing(panel: Panel) -> _Json:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "bars" if panel.bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if panel.stacked else 8,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "showPoints": "never",
        "spanNulls": False,
    }


def _overrides(panel: Panel) -> Iterator[_Json]:
    for name, color in panel.colors:
        yield {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }


def _options(panel: Panel) -> _Json:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            return {
                "reduceOptions": reduced,
                "colorMode": "background",
                "graphMode": "none",
                "textMode": "auto",
            }
        case "gauge":
            return {"reduceOptions": reduced, "showThresholdLabels": False, "showThresholdMarkers": True}
        case "bargauge":
            return {"reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal"}
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}


def _organized(panel: Panel) -> _Json:
    """Show the named columns of a table alone, in their order."""
    names = [label for label, _ in panel.columns]
    return {
        "id": "organize",
        "options": {
            "includeByName": dict.fromkeys(names, True),
            "indexByName": {name: n for n, name in enumerate(names)},
            "renameByName": dict(panel.columns),
        },
    }
