"""A panel of lines, or of areas on top of each other, as SVG."""

import math
import time
from collections.abc import Iterator
from html import escape
from typing import Final

from .answers import Answer, Span
from .figures import series_colors, shown, ticks, tint

__all__ = ["timeseries"]

_LEFT, _TOP, _BOTTOM, _RIGHT = 56, 6, 20, 8
_Line = list[tuple[float, float]]
#: A line ends where more than so many steps have no value.
_GAP: Final = 1.5
#: So many pixels are at least between the times below a plot.
_APART: Final = 48


def timeseries(answer: Answer, span: Span, width: int, height: int) -> str:
    """Draw the chart with its legend below it."""
    names = [name for name, _ in answer.series]
    colors = list(series_colors(answer.panel, names))
    lines = [_Line((t, v) for t, v in series.points if math.isfinite(v)) for _, series in answer.series]
    stacked = answer.panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    lines = _on_top(lines) if stacked else lines
    rows = _legend_rows(names, width)
    plot = _Plot(answer, span, lines, width, height - 19 * len(rows))
    body = "".join(plot.axes())
    # Areas cover each other: the highest is drawn first.
    order = range(len(lines) - 1, -1, -1) if stacked else range(len(lines))
    body += "".join(plot.line(lines[n], colors[n], filled=stacked) for n in order)
    legend = _legend(rows, dict(zip(names, colors, strict=True)))
    return f'<svg width="{width}" height="{plot.height}">{body}</svg>{legend}'


def _on_top(lines: list[_Line]) -> list[_Line]:
    """Add to each line those before it."""
    sums: dict[float, float] = {}
    stacked = []
    for line in lines:
        for t, v in line:
            sums[t] = sums.get(t, 0.0) + v
        present = {t for t, _ in line}
        stacked.append([(t, total) for t, total in sorted(sums.items()) if t in present])
    return stacked


def _legend_rows(names: list[str], width: int) -> list[list[str]]:
    """Break the legend into rows, by the width that a name has at about 6 pixels a character."""
    rows: list[list[str]] = [[]]
    used = 0
    for name in dict.fromkeys(names):
        size = 24 + 6 * len(name)
        if used + size > width and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append(name)
        used += size
    return rows


def _legend(rows: list[list[str]], colors: dict[str, str]) -> str:
    items = (
        "".join(f'<span><i style="background:{colors[name]}"></i>{escape(name)}</span>' for name in row)
        for row in rows
    )
    return "".join(f'<div class="legend">{row}</div>' for row in items)


class _Plot:
    """The area that lines are drawn in, and its scales."""

    def __init__(self, answer: Answer, span: Span, lines: list[_Line], width: int, height: int) -> None:
        field = answer.panel["fieldConfig"]["defaults"]
        values = [v for line in lines for _, v in line]
        high = field.get("max", max(values, default=0.0)) or 1.0
        self._panel = answer.panel
        self._ticks = ticks(field.get("min", min(values, default=0.0)), high, field["unit"])
        self._bars = field["custom"]["drawStyle"] == "bars"
        self._span = span
        self._step = span.step * _GAP
        self._width = width
        self._empty = not values
        self.height = height

    def x(self, t: float) -> float:
        """Where a time is."""
        share = (t - self._span.start) / (self._span.end - self._span.start)
        return _LEFT + share * (self._width - _LEFT - _RIGHT)

    def y(self, v: float) -> float:
        """Where a value is."""
        low, high = self._ticks[0], self._ticks[-1]
        share = (min(v, high) - low) / (high - low)
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - _TOP)

    def axes(self) -> Iterator[str]:
        """Lines at round values and at whole minutes, with their labels."""
        right = self._width - _RIGHT
        for value in self._ticks:
            y = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            text = escape(shown(self._panel, value))
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        pixels = (self._width - _LEFT - _RIGHT) / (self._span.end - self._span.start)
        apart = 60 * math.ceil(_APART / (60 * pixels))
        first = math.ceil(self._span.start / apart) * apart
        for t in range(first, int(self._span.end) + 1, apart):
            x = self.x(t)
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{self.height - _BOTTOM}"/>'
            text = time.strftime("%H:%M", time.gmtime(t))
            if _LEFT + 14 < x < right - 14:
                yield f'<text x="{x:.1f}" y="{self.height - 5}" text-anchor="middle">{text}</text>'
        if self._empty:
            middle = (_LEFT + right) / 2
            yield f'<text x="{middle}" y="{self.height / 2}" text-anchor="middle">No data</text>'

    def line(self, line: _Line, color: str, *, filled: bool) -> str:
        """One series: bars, or a path for each stretch without a gap."""
        if self._bars:
            return "".join(self._bar(t, v, color) for t, v in line)
        return "".join(self._stretch(list(points), color, filled) for points in self._stretches(line))

    def _bar(self, t: float, v: float, color: str) -> str:
        left, right, top = self.x(t - self._span.step), self.x(t), self.y(v)
        size = f'width="{right - left:.1f}" height="{self.height - _BOTTOM - top:.1f}"'
        return f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{color}"/>'

    def _stretches(self, line: _Line) -> Iterator[_Line]:
        current: _Line = []
        for point in line:
            if current and point[0] - current[-1][0] > self._step:
                yield current
                current = []
            current.append(point)
        if current:
            yield current

    def _stretch(self, points: _Line, color: str, filled: bool) -> str:
        if len(points) == 1:
            (t, v) = points[0]
            return f'<circle cx="{self.x(t):.1f}" cy="{self.y(v):.1f}" r="1.5" fill="{color}"/>'
        path = "M" + "L".join(f"{self.x(t):.1f},{self.y(v):.1f}" for t, v in points)
        drawn = f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
        if not filled:
            return drawn
        base = self.y(self._ticks[0])
        area = f"{path}L{self.x(points[-1][0]):.1f},{base:.1f}L{self.x(points[0][0]):.1f},{base:.1f}Z"
        return f'<path d="{area}" fill="{tint(color)}"/>{drawn}'
