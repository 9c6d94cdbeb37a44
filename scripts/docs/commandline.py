"""Tables of a command's options, read from the commands themselves.

A table stands between two comments that name its command::

    <!-- options of oz-agent-worker control-plane, written by `make docs` -->
    <!-- end of the options -->
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import click

from oz_agent_worker.cli.main import root

__all__ = ["PROGRAM", "commands", "options_table", "with_options"]

PROGRAM: Final = "oz-agent-worker"

_TABLE: Final = re.compile(
    r"(?P<begin><!-- options of (?P<command>[a-z -]+), written by `make docs` -->\n).*?"
    r"(?P<end><!-- end of the options -->)",
    re.DOTALL,
)


def commands() -> Mapping[str, click.Command]:
    """Every command of the program by its full name, the program itself first."""
    return MappingProxyType(dict(_commands(PROGRAM, root)))


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _commands(f"{name} {child}", found)


def options_table(command: click.Command) -> str:
    """Write the table of a command's arguments and options, ending in a newline."""
    rows = [cells for parameter in command.params if (cells := _row(command, parameter))]
    if not rows:
        return "It has no options.\n"
    head = ["| option | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in rows)]) + "\n"


def _row(command: click.Command, parameter: click.Parameter) -> tuple[str, ...] | None:
    if isinstance(parameter, click.Argument):
        shown = parameter.make_metavar(click.Context(command))
        return f"`{_cell(shown)}`", "", "Argument."
    assert isinstance(parameter, click.Option)
    if parameter.hidden or parameter.name in ("help", "version"):
        return None
    names = ", ".join(f"`{name}`" for name in sorted(parameter.opts, key=len, reverse=True))
    value = "" if parameter.is_flag else f" `{_cell(parameter.make_metavar(click.Context(command)))}`"
    return names + value, _default(parameter), _meaning(parameter)


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default: Any = option.default
    shown = isinstance(default, str | int) and not option.is_flag and default != ""
    return f"`{_cell(str(default))}`" if shown else ""


def _meaning(option: click.Option) -> str:
    parts = [_cell((option.help or "").strip())]
    if option.multiple and "repeatable" not in parts[0]:
        parts.append("Repeatable.")
    if isinstance(option.envvar, str):
        parts.append(f"Environment: `{option.envvar}`.")
    return " ".join(part for part in parts if part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def with_options(document: str) -> str:
    """Write every table of options of a document anew.

    Raises:
        KeyError: a comment names no command.
    """
    known = commands()
    return _TABLE.sub(lambda m: m["begin"] + options_table(known[m["command"]]) + m["end"], document)
