"""What the user's commands print: tables for people, JSON for programs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from oz_agent_worker.common.durations import short_span

__all__ = [
    "age",
    "colour_unwanted",
    "echo_json",
    "echo_json_line",
    "output_option",
    "printable",
    "state_text",
    "table",
]

_COLOURS: Final = {
    "SUCCEEDED": "green", "FAILED": "red", "ERROR": "red", "CANCELLED": "yellow", "INPROGRESS": "cyan",
}  # fmt: skip

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What to print.",
)


def echo_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def echo_json_line(value: Any) -> None:
    """Print a value as JSON on one line (https://jsonlines.org)."""
    click.echo(msgspec.json.encode(value))


def colour_unwanted(environ: Mapping[str, str]) -> bool:
    """Whether the user wants no colour, on a terminal neither (https://no-color.org)."""
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


def printable(text: str) -> str:
    """Text that others wrote, on one line, and without the characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def state_text(state: str) -> str:
    """A run's state, coloured; click strips the colour where there is no terminal."""
    return click.style(state, fg=_COLOURS.get(state))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out columns as kubectl does: upper-case header, three spaces between."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(click.unstyle(row[i])) for row in cells) for i in range(len(header))]

    def line(row: list[str]) -> str:
        padded = (
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        )
        return "   ".join(padded).rstrip()

    return "\n".join(line(row) for row in cells)


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The age of an RFC 3339 time in kubectl's short form: 45s, 12m, 3h, 2d."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp)
    return short_span(((now or datetime.now(UTC)) - then).total_seconds())
