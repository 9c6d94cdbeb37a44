"""Which control plane the user's commands talk to.

A flag wins over the environment, and the environment over a running ``oz-agent-worker dev``, which
leaves a file with its URL and key.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import UsageError

__all__ = ["Target", "announce", "resolve_target", "state_dir", "target_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """A control plane: its root URL, and a key for its API."""

    url: str
    api_key: Secret


def target_options(function: F) -> F:
    """Give a command ``--server`` and ``--api-key``."""
    key = click.option(
        "--api-key", envvar="WARP_API_KEY", metavar="KEY", help="API key; best given as WARP_API_KEY."
    )
    server = click.option(
        "--server",
        envvar="WARP_SERVER_ROOT_URL",
        metavar="URL",
        help="The control plane's root URL. Default: WARP_SERVER_ROOT_URL, else the one of a running `dev`.",
    )
    return server(key(function))


def state_dir(environ: Mapping[str, str]) -> Path:
    """The folder for this user's state (XDG Base Directory Specification)."""
    base = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return Path(base) / "oz-agent-worker"


def _note_path(environ: Mapping[str, str]) -> Path:
    return state_dir(environ) / "dev.json"


def resolve_target(server: str | None, api_key: str | None, environ: Mapping[str, str]) -> Target:
    """Find the control plane.

    Raises:
        UsageError: no control plane is given, its URL is not one, or there is no key for it.
    """
    note = {} if server else _read_note(_note_path(environ))
    url = server or note.get("url")
    # A key from the environment belongs to the server that was given with it.
    key = note.get("api_key") or api_key if not server else api_key
    if not url:
        raise UsageError(
            "no control plane is given: start one with `oz-agent-worker dev`, "
            "or give --server URL (WARP_SERVER_ROOT_URL) and WARP_API_KEY"
        )
    if not key:
        raise UsageError(f"no API key for {url}: set WARP_API_KEY, or give --api-key")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{url!r} is not the URL of a control plane: give one such as http://127.0.0.1:8080")
    return Target(url.rstrip("/"), Secret(key.strip()))


def _read_note(path: Path) -> dict[str, str]:
    try:
        note = json.loads(path.read_text())
        os.kill(int(note["pid"]), 0)  # valid only while that process lives
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: str(note[name]) for name in ("url", "api_key") if name in note}


@contextlib.contextmanager
def announce(target: Target, environ: Mapping[str, str]) -> Iterator[None]:
    """Leave the file of a running ``dev``, readable by this user alone, while the block runs."""
    path = _note_path(environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = json.dumps({"url": target.url, "api_key": target.api_key.reveal(), "pid": os.getpid()})
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(content)
    draft.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if json.loads(path.read_text()).get("pid") == os.getpid():
                path.unlink()
