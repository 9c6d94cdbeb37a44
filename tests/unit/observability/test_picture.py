"""Drawing the dashboard: what a reader of the picture would be misled by."""

import struct
import zlib

import pytest

from tests.observability.picture.answers import Answer, Span, interpolated, legend
from tests.observability.picture.figures import shown, step_color, ticks
from tests.observability.picture.png import with_palette
from tests.observability.picture.timeseries import timeseries
from tests.observability.prometheus import Series

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def panel(unit: str = "short", *, stacked: bool = False, bars: bool = False) -> dict[str, object]:
    """A panel as Grafana's model has it, as far as it is drawn."""
    drawing = {
        "stacking": {"mode": "normal" if stacked else "none"},
        "drawStyle": "bars" if bars else "line",
    }
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
    defaults = {"unit": unit, "mappings": [], "thresholds": {"steps": steps}, "custom": drawing, "min": 0}
    return {"fieldConfig": {"defaults": defaults, "overrides": []}}


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows: list[bytes], kind: int = 2) -> bytes:
    """A picture of rows that are written as they are given, their filter's number first."""
    width = (len(rows[0]) - 1) // 3
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, kind, 0, 0, 0))
    return SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def pixels(picture: bytes) -> list[list[tuple[int, ...]]]:
    """The colours of a picture with a palette."""
    parts: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        name, content = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", picture, at + 8 + size) == (zlib.crc32(name + content),)
        parts[name] = content
        at += 12 + size
    width, height = struct.unpack_from(">II", parts[b"IHDR"])
    data, palette = zlib.decompress(parts[b"IDAT"]), parts[b"PLTE"]
    rows = [data[n * (width + 1) + 1 : (n + 1) * (width + 1)] for n in range(height)]
    return [[tuple(palette[3 * index : 3 * index + 3]) for index in row] for row in rows]


@pytest.mark.parametrize(
    "second",
    [
        bytes([0, 10, 20, 30, 40, 50, 60]),
        bytes([1, 10, 20, 30, 30, 30, 30]),
        bytes([2, 9, 18, 27, 36, 45, 54]),
        bytes([3, 10, 19, 29, 33, 38, 42]),
        bytes([4, 9, 18, 27, 30, 30, 30]),
    ],
    ids=["as it is", "left", "above", "mean", "paeth"],
)
def test_a_palette_keeps_the_colours(second: bytes) -> None:
    first = bytes([0, 1, 2, 3, 4, 5, 6])
    made = pixels(with_palette(png([first, second])))
    assert made == [[(1, 2, 3), (4, 5, 6)], [(10, 20, 30), (40, 50, 60)]]


def test_a_picture_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="colour type 3"):
        with_palette(png([bytes([0, 1, 2, 3])], kind=3))


def test_variables_are_put_in_whole() -> None:
    values = {"__range": "6h", "__rate_interval": "1m", "worker_id": ".*"}
    assert interpolated('a{w=~"$worker_id"}[$__rate_interval]', values) == 'a{w=~".*"}[1m]'
    with pytest.raises(KeyError):
        interpolated("$other", values)


def test_a_legend_names_labels() -> None:
    assert legend("{{verb}} {{ resource }}", {"verb": "get", "resource": "jobs"}) == "get jobs"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("short", 12, "12"),
        ("percentunit", 0.253, "25 %"),
        ("s", 0.02, "20 ms"),
        ("s", 90, "1.5 min"),
        ("s", 0, "0 s"),
        ("reqps", 2.5, "2.5 /s"),
    ],
)
def test_values_have_their_unit(unit: str, value: float, text: str) -> None:
    assert shown(panel(unit), value) == text


def test_a_step_colours_from_its_value_on() -> None:
    assert step_color(panel(), 0.99) != step_color(panel(), 1)


@pytest.mark.parametrize(
    ("high", "unit", "expected"), [(10, "short", [0, 2.5, 5, 7.5, 10]), (100, "s", [0, 30, 60, 90, 120])]
)
def test_ticks_are_round_and_reach_the_top(high: float, unit: str, expected: list[float]) -> None:
    assert ticks(0, high, unit) == expected


SPAN = Span(0.0, 40.0, 10.0, 40.0)


def drawn(*lines: tuple[tuple[float, float], ...], stacked: bool = False, bars: bool = False) -> str:
    """A chart of lines named a, b, …"""
    series = tuple((name, Series({}, line)) for name, line in zip("abc", lines, strict=False))
    return timeseries(Answer(panel(stacked=stacked, bars=bars), series), SPAN, 464, 200)


def test_a_line_ends_where_values_are_missing() -> None:
    assert drawn(((0, 1), (10, 1), (30, 1), (40, 1))).count("<path") == 2
    assert drawn(((0, 1), (10, 1), (20, 1), (30, 1))).count("<path") == 1


def test_a_stacked_series_starts_at_the_one_below() -> None:
    below, above = ((0.0, 1.0), (10.0, 1.0)), ((0.0, 3.0), (10.0, 3.0))
    assert ">4</text>" in drawn(below, above, stacked=True)
    assert ">4</text>" not in drawn(below, above)


def test_bars_have_no_lines() -> None:
    chart = drawn(((10, 1), (30, 1)), bars=True)
    assert chart.count("<rect") == 2
    assert "<path" not in chart


def test_no_value_is_no_zero() -> None:
    assert "No data" in drawn()
    assert "No data" in drawn(((0, float("nan")),))
