"""The root command. Subcommands are imported when they are used, so that the worker starts fast and
holds nothing of the control plane in memory."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal

import click

from oz_agent_worker import __version__
from oz_agent_worker.errors import ExitCode, OzError

from .options import flags_from, process_options, worker_options
from .output import colour_unwanted

__all__ = ["main", "root"]

#: Subcommand to the module that holds it and its one-line help.
SUBCOMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "dev": ("dev", "Control plane, worker and agent in one terminal."),
    "run": ("runs", "Submit a run."),
    "runs": ("runs", "List runs, or show one."),
    "logs": ("runs", "Print a run's output."),
    "cancel": ("runs", "Cancel runs."),
    "control-plane": ("control_plane", "Serve the control plane, and manage its keys."),
    "render": ("render", "Print the Job that an assignment would become."),
    "doctor": ("doctor", "Check whether this worker could run tasks."),
    "tasks": ("inspect", "List the tasks that have a Job in the cluster."),
    "explain": ("inspect", "Say what a task in the cluster waits for, or why it ended."),
    "collect": ("inspect", "Pack everything that the cluster has of a task."),
    "completion": ("completion", "Print a shell completion script."),
}


class _LazyGroup(click.Group):
    """A group whose subcommands are in modules of their own."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader closed the pipe, as `head` does: that is no error. The rest of the buffer
            # goes to /dev/null, because flushing it would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.OK

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"{__package__}.{SUBCOMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in SUBCOMMANDS.items()])


_EPILOG = """\b
Examples:
  oz-agent-worker dev                              try it on this machine
  oz-agent-worker --worker-id w1 --backend direct  tasks as processes of this host
  oz-agent-worker --config-file worker.yaml        all settings from a file

\b
Exit codes: 0 success, 1 failed, 2 usage or configuration, 3 the backend cannot
run tasks, 4 the API key was refused (with --exit-on-auth-failure).
"""


@click.group(
    "oz-agent-worker",
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@worker_options
@process_options
@click.version_option(__version__, prog_name="oz-agent-worker")
@click.pass_context
def root(
    ctx: click.Context,
    /,
    log_level: str,
    log_format: Literal["text", "json"],
    health_port: int,
    health_host: str,
    exit_on_auth_failure: bool,
    shutdown_grace: float,
    **options: Any,
) -> None:
    """Run coding-agent tasks on your own infrastructure.

    Without a command this runs the worker: it connects out to the control plane,
    takes tasks, runs each one and reports how it ended.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = options
        return
    from .serve import serve_worker, worker_options_from

    process = worker_options_from(health_port, health_host, exit_on_auth_failure, shutdown_grace)
    serve_worker(flags_from(options), process, log_level, log_format)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; errors become one text on stderr and an exit code."""
    colour = False if colour_unwanted(os.environ) else None
    try:
        status: object = root.main(argv, standalone_mode=False, color=colour)
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OzError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True, color=colour)
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else ExitCode.OK)
