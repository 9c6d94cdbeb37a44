"""The worker's flags, for every command that takes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.registry import BACKENDS
from oz_agent_worker.worker.config.durations import parse_duration
from oz_agent_worker.worker.config.load import WorkerFlags

__all__ = [
    "duration_in_seconds",
    "flags_from",
    "log_level_option",
    "process_options",
    "worker_option",
    "worker_options",
]

#: Every IPv4 address of the machine; a cluster of IPv6 alone needs ``::``.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  served only where --health-port asks for it

F = TypeVar("F", bound=Callable[..., Any])


#: The words of Go's strconv.ParseBool, which the public worker's flags take.
_WORDS: Final = {
    word: value
    for words, value in (("1 t T true TRUE True", True), ("0 f F false FALSE False", False))
    for word in words.split()
}


class WorkerOption(click.Option):
    """An option that counts as not given if its value is empty, as in ``--backend "$BACKEND"``.

    A flag takes a value after ``=``, as in ``--no-cleanup=false``.
    """

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let click's parser, which refuses ``--flag=value``, take this flag with a value."""
        super().add_to_parser(parser, ctx)
        if not self.is_flag:
            return
        match_without = parser._match_long_opt  # noqa: SLF001

        def match(opt: str, value: str | None, state: Any) -> None:
            if value is None or opt not in self.opts:
                match_without(opt, value, state)
            elif value == "":
                pass  # not given
            elif value not in _WORDS:
                raise click.BadParameter(f"{value!r} is not true or false", ctx, self)
            else:
                match_without(opt, None, state)
                state.opts[self.name] = _WORDS[value]

        parser._match_long_opt = match  # noqa: SLF001

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, click.core.ParameterSource]:
        """Find the value: on the command line, else in the environment, else the default."""
        given = opts.get(self.name or "")
        if given == "":
            opts = {name: value for name, value in opts.items() if name != self.name}
        elif isinstance(given, list):  # of a repeatable option
            opts = {**opts, str(self.name): [value for value in given if value != ""]}
        return super().consume_value(ctx, opts)


def worker_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare one of the worker's options."""
    return click.option(*names, cls=WorkerOption, **attributes)


_OPTIONS: Final = (
    worker_option("--worker-id", metavar="ID", help="This worker's ID; runs can name it as their host."),
    worker_option(
        "--api-key", envvar="WARP_API_KEY", metavar="KEY", help="API key; best given as WARP_API_KEY."
    ),
    worker_option("--config-file", metavar="FILE", help="YAML config file."),
    worker_option(
        "--backend", type=click.Choice(list(BACKENDS)),
        help="Default: the one in the config file, otherwise docker; for render kubernetes.",
    ),
    worker_option("--no-cleanup", is_flag=True, help="Keep Jobs, containers and workspaces."),
    worker_option(
        "-v", "--volumes", multiple=True, metavar="[HOST:]CONTAINER[:OPTIONS]",
        help="Mount; Docker only; repeatable.",
    ),
    worker_option(
        "-e", "--env", multiple=True, metavar="KEY[=VALUE]",
        help="Variable for every task; KEY alone passes the worker's own value on; repeatable.",
    ),
    worker_option(
        "--max-concurrent-tasks", type=int, metavar="N", help="0 or less is unlimited (the default)."
    ),
    worker_option(
        "--idle-on-complete", metavar="TIME", help="How long the agent stays after its task: 45m, 0s."
    ),
    worker_option("--target-dir", metavar="DIR", help="Run every task in this directory; direct only."),
    worker_option("--web-socket-url", metavar="URL", help="The control plane's WebSocket."),
    worker_option("--server-root-url", metavar="URL", help="The control plane as the agents reach it."),
    worker_option("--session-sharing-server-url", metavar="URL", help="Passed on to the agents."),
    worker_option(
        "--strict", is_flag=True, help="Refuse what is a warning in the flags and the config file."
    ),
)  # fmt: skip


#: The flags of the worker's process, which the config file does not have.
_PROCESS_OPTIONS: Final = (
    worker_option(
        "--log-level", type=click.Choice(["debug", "info", "warn", "error"]), default="info",
        show_default=True, help="The least severe level that is logged.",
    ),
    worker_option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
        envvar="OZ_WORKER_LOG_FORMAT", help="Lines for people, or one JSON object per line.",
    ),
    worker_option(
        "--health-port", type=click.IntRange(0, 65535), default=0, metavar="PORT",
        envvar="OZ_WORKER_HEALTH_PORT", help="Serve /healthz and /readyz here; 0 (the default) does not.",
    ),
    worker_option(
        "--health-host", default=EVERY_ADDRESS, metavar="HOST", envvar="OZ_WORKER_HEALTH_HOST",
        help="Address to serve them on; a kubelet's probes come to the Pod's own.", show_default=True,
    ),
    worker_option(
        "--exit-on-auth-failure", is_flag=True,
        help="Exit with code 4 if the control plane refuses the key.",
    ),
    worker_option(
        "--shutdown-grace", default="25s", metavar="TIME", show_default=True,
        envvar="OZ_WORKER_SHUTDOWN_GRACE", callback=lambda _ctx, _option, value: duration_in_seconds(value),
        help="How long the worker may deliver results after SIGTERM: 25s, 2m.",
    ),
)  # fmt: skip
#: ``--log-level``, for commands that have no other flag of the process.
log_level_option: Final = _PROCESS_OPTIONS[0]


def _all_of(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Make one decorator of several options."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


#: Gives a command the worker's own flags.
worker_options: Final = _all_of(_OPTIONS)
#: Gives a command the flags of the worker's process.
process_options: Final = _all_of(_PROCESS_OPTIONS)


def duration_in_seconds(text: str) -> float:
    """Read a flag's duration.

    Raises:
        click.BadParameter: it is not a duration above 0.
    """
    seconds = parse_duration(text)
    if seconds is None or seconds <= 0:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 10m or 1h30m")
    return seconds


def flags_from(options: Mapping[str, Any], under: Mapping[str, Any] | None = None) -> WorkerFlags:
    """The flags as one object. Flags of an outer command, ``under``, count if the inner one has none."""
    merged: dict[str, Any] = {name: value or (under or {}).get(name) for name, value in options.items()}
    for name in ("env", "volumes"):
        merged[name] = (*(under or {}).get(name, ()), *options[name])
    key = merged.pop("api_key")
    for name in ("no_cleanup", "strict"):
        merged[name] = bool(merged[name])
    return WorkerFlags(api_key=Secret(key) if key else None, **merged)
