"""The page with all panels at their places, and its picture by a browser without a screen."""

import shutil
import subprocess
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

from .answers import Answer, Span
from .panels import bargauge, gauge, stat, table
from .png import with_palette
from .timeseries import timeseries

__all__ = ["PictureError", "page", "photograph"]

_COLUMN, _ROW, _MARGIN = 56, 27, 8
_PADDING, _TITLE = 10, 26
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_STYLE: Final = """
* { box-sizing: border-box; margin: 0 }
body { background: #f4f5f5; font: 12px 'DejaVu Sans', sans-serif; color: #24292e; position: relative }
.panel, h2 { position: absolute }
.panel { background: #fff; border: 1px solid #dcdfe3; border-radius: 3px; overflow: hidden; padding: 0 10px }
h2 { font-size: 15px; font-weight: 600; padding: 7px 2px }
h3 { font-size: 12.5px; font-weight: 600; line-height: 26px; white-space: nowrap; overflow: hidden }
svg { display: block } svg text { font-size: 11px; fill: #52565c } .grid { stroke: #eceef0 }
svg text.figure { font-size: 24px; fill: #24292e; font-weight: 600 }
.legend { height: 19px; white-space: nowrap; overflow: hidden; font-size: 11px }
.legend span { margin-right: 12px }
.legend i { display: inline-block; width: 12px; height: 3px; margin-right: 4px; vertical-align: middle }
.stats { display: flex; gap: 4px; height: calc(100% - 36px) }
.stat { flex: 1; border-radius: 3px; color: #fff; font-size: 20px; font-weight: 600; display: flex;
  flex-direction: column; align-items: center; justify-content: center }
.stat:not(:only-child) { font-size: 14px }
.stat small { font-size: 11px; font-weight: 400 }
.bar { display: flex; height: 20px; align-items: center; font-size: 11px }
.bar span { width: 190px; overflow: hidden; white-space: nowrap } .bar b { flex: 1 }
.bar i { display: block; height: 13px } .bar em { width: 40px; text-align: right; font-style: normal }
table { width: 100%; border-collapse: collapse; font-size: 11px }
th, td { text-align: left; padding: 5px 3px; border-bottom: 1px solid #eceef0 }
"""


class PictureError(Exception):
    """No picture can be made; the text says why."""


def page(found: Iterable[Answer], span: Span) -> tuple[str, int, int]:
    """Lay out all panels; return the page, its width and its height in pixels."""
    placed = []
    bottom = 0
    for answer in found:
        place = answer.panel["gridPos"]
        x, y = place["x"] * _COLUMN + _MARGIN, place["y"] * _ROW + _MARGIN
        width, height = place["w"] * _COLUMN - _MARGIN, place["h"] * _ROW - _MARGIN
        bottom = max(bottom, y + height)
        box = f'style="left:{x}px;top:{y}px;width:{width}px;height:{height}px"'
        title = escape(answer.panel["title"])
        if answer.panel["type"] == "row":
            placed.append(f"<h2 {box}>{title}</h2>")
            continue
        inside = _inside(answer, span, width - 2 * _PADDING - 2, height - _TITLE - 2)
        placed.append(f'<div class="panel" {box}><h3>{title}</h3>{inside}</div>')
    head = f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>'
    return f"{head}<body>{''.join(placed)}</body>", 24 * _COLUMN + _MARGIN, bottom + _MARGIN


def _inside(answer: Answer, span: Span, width: int, height: int) -> str:
    match answer.panel["type"]:
        case "timeseries":
            return timeseries(answer, span, width, height)
        case "stat":
            return stat(answer)
        case "gauge":
            return gauge(answer, width, height)
        case "bargauge":
            return bargauge(answer)
        case "table":
            return table(answer)
        case other:
            raise PictureError(f"panels of type {other} cannot be drawn")


def photograph(html: str, width: int, height: int, folder: Path, picture: Path) -> None:
    """Write the picture of a page.

    Raises:
        PictureError: there is no browser, or it fails.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise PictureError("no Chromium on PATH: install Debian's package chromium")
    source = folder / "page.html"
    source.write_text(html, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--disable-lcd-text", f"--user-data-dir={folder / 'browser'}",
        f"--window-size={width},{height}", f"--screenshot={picture}", source.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0 or not picture.is_file():
        raise PictureError(f"{browser} failed: {done.stderr[-1000:]}")
    picture.write_bytes(with_palette(picture.read_bytes()))
