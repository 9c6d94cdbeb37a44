"""Numbers and colours as a panel shows them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["color", "series_colors", "shown", "step_color", "ticks", "tint"]

#: The order in which series without a colour of their own get one.
_PALETTE: Final = (
    "#73bf69", "#5794f2", "#f2cc0c", "#ff780a", "#b877d9",
    "#e0226e", "#37b5b6", "#8f5a3c", "#3274d9", "#a3a948",
)  # fmt: skip
_NAMED: Final = {
    "green": "#56a64b",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "red": "#e02f44",
    "blue": "#3274d9",
    "purple": "#a352cc",
}
_SECONDS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))


def color(name: str) -> str:
    """A colour of Grafana's, by its name or as it is written."""
    return _NAMED.get(name, name)


def series_colors(panel: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    """Yield the colour of each series: its own, or the next of the palette."""
    own = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
    }
    for number, name in enumerate(names):
        yield color(own[name]) if name in own else _PALETTE[number % len(_PALETTE)]


def tint(rgb: str) -> str:
    """A light form of a colour, ``#rrggbb``: opaque, so that areas below do not shine through."""
    parts = (int(rgb[n : n + 2], 16) for n in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.45 * (255 - part)):02x}" for part in parts)


def step_color(panel: Mapping[str, Any], value: float) -> str:
    """The colour of the highest step that a value reaches."""
    reached = [
        step["color"]
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if step["value"] is None or value >= step["value"]
    ]
    return color(reached[-1])


def shown(panel: Mapping[str, Any], value: float) -> str:
    """Write a value with its unit."""
    field = panel["fieldConfig"]["defaults"]
    for mapping in field["mappings"]:
        if (text := mapping["options"].get(f"{value:g}")) is not None:
            return str(text["text"])
    match field["unit"]:
        case "percentunit":
            return f"{value * 100:.0f} %"
        case "s":
            return _duration(value)
        case "reqps":
            return f"{value:.3g} /s"
        case _:
            return f"{value:.3g}"


def _duration(value: float) -> str:
    for size, unit in _SECONDS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "0 s" if value == 0 else f"{value * 1000:.2g} ms"


def ticks(low: float, high: float, unit: str, count: int = 4) -> list[float]:
    """Round numbers from ``low`` to ``high`` at least, about ``count`` of them; seconds in minutes' parts."""
    rough = (high - low) / count or 1.0
    magnitude = 10.0 ** math.floor(math.log10(rough))
    steps = [magnitude * nice for nice in (1, 2, 2.5, 5, 10)]
    if unit == "s" and rough > 10:
        steps = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, *steps]
    step = next(step for step in steps if step >= rough * 0.999)
    return [low + step * n for n in range(math.ceil((high - low) / step - 1e-9) + 1)]
