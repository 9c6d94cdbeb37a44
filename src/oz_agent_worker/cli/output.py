"""Output of the commands: tables for people, JSON for programs."""

import json
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
    help="Output format.",
)


def echo_json(value: Any) -> None:
    """Print a value as indented JSON. A path whose bytes are not UTF-8 is escaped, as in ``"\\udcff"``."""
    try:
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
    except UnicodeEncodeError:
        click.echo(json.dumps(msgspec.to_builtins(value), indent=2))


def echo_json_line(value: Any) -> None:
    """Print a value as JSON on one line (https://jsonlines.org)."""
    click.echo(msgspec.json.encode(value))


def colour_unwanted(environ: Mapping[str, str]) -> bool:
    """Whether the user wants no colour even on a terminal (https://no-color.org)."""
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


def printable(text: str) -> str:
    """Text from other programs on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def state_text(state: str) -> str:
    """A run's state in colour; click strips the colour if the output is not a terminal."""
    return click.style(state, fg=_COLOURS.get(state))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in kubectl's layout: upper-case header, three spaces between columns."""
    lines = [header, *rows]
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*lines, strict=True)]
    padded = (
        [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)]
        for line in lines
    )
    return "\n".join("   ".join(line).rstrip() for line in padded)


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The age of an RFC 3339 time in kubectl's short form: 45s, 12m, 3h, 2d."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp)
    return short_span(((now or datetime.now(UTC)) - then).total_seconds())
