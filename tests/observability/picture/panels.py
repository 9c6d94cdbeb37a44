"""Panels that show the last value: figures, gauges, bars, tables, as HTML with SVG in it."""

import math
from html import escape

from .answers import Answer
from .figures import shown, step_color

__all__ = ["bargauge", "gauge", "stat", "table"]


def stat(answer: Answer) -> str:
    """A figure a series, on its colour."""
    cells = (
        f'<div class="stat" style="background:{step_color(answer.panel, value)}">'
        f"<small>{escape(name)}</small>{escape(shown(answer.panel, value))}</div>"
        for name, value in _last(answer)
    )
    return f'<div class="stats">{"".join(cells)}</div>'


def gauge(answer: Answer, width: int, height: int) -> str:
    """A half circle, filled as far as the value goes."""
    ((_, value), *_) = _last(answer) or [("", 0.0)]
    x, y, radius = width / 2, height - 24, min(width / 2, height - 40)
    background = _arc(x, y, radius, 1.0, "#e4e5e6")
    filled = _arc(x, y, radius, min(max(value, 0.0), 1.0), step_color(answer.panel, value))
    figure = escape(shown(answer.panel, value))
    text = f'<text class="figure" x="{x}" y="{y}" text-anchor="middle">{figure}</text>'
    return f'<svg width="{width}" height="{height}">{background}{filled}{text}</svg>'


def _arc(x: float, y: float, radius: float, share: float, color: str) -> str:
    angle = math.pi * (1 - share)
    end_x, end_y = x + radius * math.cos(angle), y - radius * math.sin(angle)
    path = f"M{x - radius:.1f},{y:.1f}A{radius:.1f},{radius:.1f} 0 0 1 {end_x:.1f},{end_y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="18"/>'


def bargauge(answer: Answer) -> str:
    """A bar a series, the longest first."""
    values = _last(answer)
    longest = max((value for _, value in values), default=1.0)
    rows = (
        f'<div class="bar"><span>{escape(name)}</span><b><i style="'
        f'width:{value / longest * 100:.1f}%;background:{step_color(answer.panel, value)}"></i></b>'
        f"<em>{escape(shown(answer.panel, value))}</em></div>"
        for name, value in values
    )
    return f'<div class="bars">{"".join(rows)}</div>'


def table(answer: Answer) -> str:
    """The labels that the panel chooses, a row a series."""
    (organize,) = answer.panel["transformations"]
    names = list(organize["options"]["includeByName"])
    head = "".join(f"<th>{escape(organize['options']['renameByName'][name])}</th>" for name in names)
    rows = (
        "".join(f"<td>{escape(series.labels.get(name, ''))}</td>" for name in names)
        for _, series in answer.series
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _last(answer: Answer) -> list[tuple[str, float]]:
    values = [(name, series.points[-1][1]) for name, series in answer.series]
    return [(name, value) for name, value in values if math.isfinite(value)]
