"""The JSON model of a dashboard, as Grafana loads it.

Source: grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["Panel", "Row", "Target", "dashboard"]

#: Grafana migrates older versions, and loads a newer one as it is.
SCHEMA_VERSION: Final = 41
UID: Final = "oz-agent-worker"
_COLUMNS: Final = 24
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_LAST_VALUE: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}
#: The options of a panel by its kind.
_OPTIONS: Final = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _LAST_VALUE,
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    },
    "gauge": {
        "reduceOptions": _LAST_VALUE,
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
    },
    "bargauge": {
        "reduceOptions": _LAST_VALUE,
        "displayMode": "basic",
        "orientation": "horizontal",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel; ``legend`` names its series by their labels, as ``{{label}}``.

    ``instant`` asks for the last value only.
    """

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel; ``width`` is in columns of 24, ``height`` in rows of about 30 pixels.

    ``unit`` is Grafana's name of it. Each of ``thresholds`` is a colour and the value from which it counts;
    the first has no value. ``texts`` replace values, ``colors`` belong to series by their names.
    ``stacked`` draws areas on top of each other, and with ``bars`` bars, for series with gaps. ``columns``
    are a table's labels and what they are called.
    """

    title: str
    about: str
    targets: tuple[Target, ...]
    kind: Literal["stat", "gauge", "bargauge", "timeseries", "table"] = "timeseries"
    width: int = 8
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    stacked: bool = False
    bars: bool = False
    high: float | None = None
    thresholds: tuple[tuple[str, float | None], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    colors: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels below a heading."""

    title: str
    panels: tuple[Panel, ...]


def dashboard(title: str, rows: Iterable[Row]) -> _Json:
    """Make the model of a dashboard."""
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
    """Number the rows and panels, and place them on the grid."""
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
        "fieldConfig": {
            "defaults": _field(panel),
            "overrides": [_override(*color) for color in panel.colors],
        },
        "options": _OPTIONS[panel.kind],
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
    steps = [{"color": color, "value": value} for color, value in panel.thresholds or (("green", None),)]
    texts = {value: {"index": n, "text": text} for n, (value, text) in enumerate(panel.texts)}
    low = 0 if panel.kind in ("timeseries", "gauge", "bargauge") else None
    limits = {"min": low, "max": panel.high, "decimals": panel.decimals}
    return {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.thresholds else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": texts}] if texts else [],
        "custom": _drawing(panel) if panel.kind == "timeseries" else {},
        **{name: value for name, value in limits.items() if value is not None},
    }


def _drawing(panel: Panel) -> _Json:
    return {
        "drawStyle": "bars" if panel.bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if panel.stacked else 8,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "showPoints": "never",
        "spanNulls": False,
    }


def _override(name: str, color: str) -> _Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


def _organized(panel: Panel) -> _Json:
    """Show only the named columns of a table, in their order."""
    names = [label for label, _ in panel.columns]
    return {
        "id": "organize",
        "options": {
            "includeByName": dict.fromkeys(names, True),
            "indexByName": {name: n for n, name in enumerate(names)},
            "renameByName": dict(panel.columns),
        },
    }
