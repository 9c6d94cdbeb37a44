"""The worker's own flags, shared by every command that they count for."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from oz_agent_worker.config.load import BACKENDS, WorkerFlags
from oz_agent_worker.core.secret import Secret

__all__ = ["flags_from", "log_format_option", "log_level_option", "probe_options", "worker_options"]

#: Every IPv4 address of the machine; a cluster of IPv6 alone needs ``::``.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  served only where --health-port asks for it

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--worker-id", metavar="ID", help="This worker's ID; runs can name it as their host."),
    click.option(
        "--api-key", envvar="WARP_API_KEY", metavar="KEY", help="API key; best given as WARP_API_KEY."
    ),
    click.option("--config-file", metavar="FILE", help="YAML config file."),
    click.option(
        "--backend", type=click.Choice(list(BACKENDS)), help="Default: the file's one, else docker."
    ),
    click.option("--no-cleanup", is_flag=True, help="Keep Jobs, containers and workspaces."),
    click.option(
        "-v", "--volumes", multiple=True, metavar="HOST:CONTAINER[:ro|rw]", help="Mount; Docker only."
    ),
    click.option(
        "-e", "--env", multiple=True, metavar="KEY[=VALUE]",
        help="Variable for every task; KEY alone passes the worker's own value on; repeatable.",
    ),
    click.option("--max-concurrent-tasks", type=int, metavar="N", help="0 is unlimited (the default)."),
    click.option(
        "--idle-on-complete", metavar="TIME", help="How long the agent stays after its task: 45m, 0s."
    ),
    click.option("--target-dir", metavar="DIR", help="Run every task in this directory; direct only."),
    click.option("--web-socket-url", metavar="URL", help="The control plane's WebSocket."),
    click.option("--server-root-url", metavar="URL", help="The control plane as the agents reach it."),
    click.option("--session-sharing-server-url", metavar="URL", help="Passed on to the agents."),
)  # fmt: skip


def worker_options(function: F) -> F:
    """Give a command the worker's own flags."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def log_level_option(function: F) -> F:
    """Give a command ``--log-level``."""
    levels = click.Choice(["debug", "info", "warn", "error"])
    return click.option(
        "--log-level", type=levels, default="info", show_default=True, help="The least that is logged."
    )(function)


def log_format_option(function: F) -> F:
    """Give a command ``--log-format``."""
    return click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
        envvar="OZ_WORKER_LOG_FORMAT", help="Lines for people, or one JSON object a line.",
    )(function)  # fmt: skip


def probe_options(function: F) -> F:
    """Give a command ``--health-port`` and ``--health-host``."""
    port = click.option(
        "--health-port", type=click.IntRange(0, 65535), default=0, metavar="PORT",
        envvar="OZ_WORKER_HEALTH_PORT", help="Serve /healthz and /readyz; 0 does not (the default).",
    )  # fmt: skip
    host = click.option(
        "--health-host", default=EVERY_ADDRESS, metavar="HOST", envvar="OZ_WORKER_HEALTH_HOST",
        help="The address for it; a kubelet's probes come to the Pod's own.", show_default=True,
    )  # fmt: skip
    return port(host(function))


def flags_from(options: Mapping[str, Any], under: Mapping[str, Any] | None = None) -> WorkerFlags:
    """Make the flags' record; ``under`` are flags of an outer command, which count less."""
    merged: dict[str, Any] = {name: value or (under or {}).get(name) for name, value in options.items()}
    for name in ("env", "volumes"):
        merged[name] = (*(under or {}).get(name, ()), *options[name])
    key = merged.pop("api_key")
    merged["no_cleanup"] = bool(merged["no_cleanup"])
    return WorkerFlags(api_key=Secret(key) if key else None, **merged)
