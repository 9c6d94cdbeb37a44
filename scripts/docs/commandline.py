"""The commands of the program, and tables of their options."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import click

from oz_agent_worker.cli.main import root

from .markdown import table

__all__ = ["PROGRAM", "commands", "options_table"]

PROGRAM: Final = "oz-agent-worker"


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
    """The arguments and options of a command."""
    rows = [cells for parameter in command.params if (cells := _row(command, parameter))]
    if not rows:
        return "It has no options.\n"
    return table(("option", "default", "meaning"), rows)


def _row(command: click.Command, parameter: click.Parameter) -> tuple[str, ...] | None:
    if isinstance(parameter, click.Argument):
        shown = parameter.make_metavar(click.Context(command))
        return f"`{shown}`", "", "Argument."
    assert isinstance(parameter, click.Option)
    if parameter.hidden or parameter.name in ("help", "version"):
        return None
    names = ", ".join(f"`{name}`" for name in sorted(parameter.opts, key=len, reverse=True))
    value = "" if parameter.is_flag else f" `{parameter.make_metavar(click.Context(command))}`"
    return names + value, _default(parameter), _meaning(parameter)


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default: Any = option.default
    shown = isinstance(default, str | int) and not option.is_flag and default != ""
    return f"`{default}`" if shown else ""


def _meaning(option: click.Option) -> str:
    parts = [(option.help or "").strip()]
    if option.multiple and "repeatable" not in parts[0]:
        parts.append("Repeatable.")
    if isinstance(option.envvar, str):
        parts.append(f"Environment: `{option.envvar}`.")
    return " ".join(part for part in parts if part)
