"""What a dashboard consists of, as far as this one needs it. Pure data."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Kind", "Panel", "Row", "Step", "Target"]

Kind: TypeAlias = Literal["stat", "gauge", "bargauge", "timeseries", "table"]


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel; ``legend`` names its series by their labels, as ``{{label}}``.

    ``instant`` asks for the last value alone.
    """

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """From this value on a panel has this colour; ``None`` is from the beginning."""

    color: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel: its size is in columns of 24, and in rows of 30 pixels or so.

    ``unit`` is Grafana's name of it. ``texts`` says what values stand for. ``colors`` gives
    series of a name their colour. ``stacked`` draws areas on top of each other, and with ``bars``
    bars, for what has gaps. ``columns`` are a table's: labels, and what they are called.
    """

    title: str
    about: str
    kind: Kind
    targets: tuple[Target, ...]
    width: int
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    stacked: bool = False
    bars: bool = False
    low: float | None = None
    high: float | None = None
    steps: tuple[Step, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    colors: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels below a heading."""

    title: str
    panels: tuple[Panel, ...]
