"""The worker's flags, and what their values say.

The public worker splits the value of a flag that can be repeated at its commas. Here a value of
``--env`` is kept whole, because values have commas more often than a flag has two entries.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.common.secret import Secret

from .nodes import Problems
from .shapes import EnvEntry, is_variable_name, is_volume_option

__all__ = ["WorkerFlags", "env_flags", "volume_flags"]

_COMMA: Final = re.compile(r"(?<!\\),")
_ENTRY: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(=?)")


@dataclass(frozen=True, kw_only=True)
class WorkerFlags:
    """The worker's command line; ``None``, 0, "" and empty mean not given."""

    worker_id: str | None = None
    api_key: Secret | None = None
    config_file: str | None = None
    backend: str | None = None
    no_cleanup: bool = False
    volumes: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    max_concurrent_tasks: int | None = None
    idle_on_complete: str | None = None
    target_dir: str | None = None
    web_socket_url: str | None = None
    server_root_url: str | None = None
    session_sharing_server_url: str | None = None
    strict: bool = False


def env_flags(values: Iterable[str], environ: Mapping[str, str], problems: Problems) -> Iterator[EnvEntry]:
    """The entries of ``--env``: KEY=VALUE, or names that pass the worker's own values on (A,B).

    A comma in a value is part of it, and ``\\,`` is a comma too. A value that may hold another
    entry is a warning.
    """
    for flag in values:
        names, equals, value = flag.partition("=")
        *others, last = _COMMA.split(names)
        entries = [*((name, None) for name in others), (last, value if equals else None)]
        for name, given in entries:
            if is_variable_name(name):
                text = None if given is None else given.replace("\\,", ",")
                yield EnvEntry(name, text, f"--env {name}: ")
            else:
                # The entry is not shown: its value may be a secret.
                problems.found.append(
                    "--env: an entry is empty, or its key is empty or contains white space; "
                    "allowed is KEY=VALUE, or KEY to pass the worker's own value on"
                )
        if any(_looks_like_entry(part, environ) for part in _COMMA.split(value)[1:]):
            problems.warn(
                f"--env {last}", None, "a comma is followed by what looks like another entry, and belongs to"
                " the value here: give --env for each variable, or write \\, for a comma",
            )  # fmt: skip


def _looks_like_entry(text: str, environ: Mapping[str, str]) -> bool:
    found = _ENTRY.match(text)
    return found is not None and (found[2] == "=" or (found[0] == text and text in environ))


def volume_flags(values: Iterable[str]) -> Iterator[str]:
    """The mounts of ``--volumes``: several with commas between them, but ``ro,z`` are one's options."""
    for flag in values:
        mount, *others = _COMMA.split(flag)
        for part in others:
            if mount.count(":") == 2 and is_volume_option(part):
                mount += f",{part}"
            else:
                yield mount.replace("\\,", ",")
                mount = part
        yield mount.replace("\\,", ",")
