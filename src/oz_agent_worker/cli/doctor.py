"""``doctor``: checks whether this worker could run tasks, and shows one result a line."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import click

from oz_agent_worker.errors import ConfigError, ExitCode
from oz_agent_worker.worker.backends.registry import BACKENDS, BackendContext
from oz_agent_worker.worker.checks import Check, CheckResult, Severity, fail, ok, run_checks, warn
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags
from oz_agent_worker.worker.events import ignore_event
from oz_agent_worker.worker.peer import ControlPlanePeer

from .control_plane_checks import control_plane_checks
from .options import flags_from, worker_options
from .output import echo_json, output_option
from .worker_config import load_worker_config

__all__ = ["doctor"]

_COLOURS: Final = {
    Severity.OK: "green", Severity.WARN: "yellow", Severity.FAIL: "red", Severity.SKIP: "bright_black",
}  # fmt: skip
_CONFIGURATION: Final = "configuration"


@click.command("doctor")
@worker_options
@click.option("--no-job", is_flag=True, help="Create nothing: leave the preflight Job out.")
@output_option
@click.pass_context
def doctor(ctx: click.Context, /, no_job: bool, output: str, **options: Any) -> int:
    """Check whether this worker could run tasks, and say what to change where it could not.

    Takes the worker's own flags and config file. On Kubernetes a short preflight Job is run
    and deleted, as at each start of the worker. No task is taken, and no run is changed.

    Exit code 0 where nothing failed, 3 otherwise; warnings fail nothing.
    """
    flags = flags_from(options, under=ctx.obj)
    try:
        results = asyncio.run(_run(flags, with_job=not no_job, as_table=output == "table"))
    except asyncio.CancelledError:
        raise click.Abort from None
    failed = any(result.severity is Severity.FAIL for _, result in results)
    return ExitCode.PREFLIGHT if failed else ExitCode.OK


async def _run(flags: WorkerFlags, *, with_job: bool, as_table: bool) -> list[tuple[str, CheckResult]]:
    """Run all checks and print their results: a table's rows as they come, JSON at the end."""
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM cancels the checks, so that the preflight Job is deleted.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    async with AsyncExitStack() as stack:
        checks = await _checks(flags, with_job, stack)
        width = max(len(check.name) for check in checks)
        if as_table:
            click.echo(f"{'CHECK':<{width}}   VERDICT   DETAIL")
        async for name, result in run_checks(checks):
            results.append((name, result))
            if as_table:
                _print_row(name, result, width)
        if as_table:
            _print_summary(results)
        else:
            _print_json(results)
    return results


async def _checks(flags: WorkerFlags, with_job: bool, stack: AsyncExitStack) -> Sequence[Check]:
    try:
        config = load_worker_config(flags, os.environ, needs_key=False)
    except ConfigError as error:
        return [_decided(_CONFIGURATION, fail(str(error), "correct the flags or the config file"))]
    source = flags.config_file or "flags alone"
    summary = f"{source}: backend {config.backend_name}, worker ID {config.worker_id}"
    settings = ok(summary)
    if config.warnings:
        fix = "correct the flags or the config file; --strict refuses what is a warning here"
        settings = warn("\n".join((summary, *config.warnings)), fix)
    return [
        _decided(_CONFIGURATION, settings),
        *await _backend_checks(config, with_job, stack),
        *control_plane_checks(config, os.environ),
    ]


def _decided(name: str, result: CheckResult) -> Check:
    """Make a check whose result is known already."""

    async def run() -> CheckResult:
        return result

    return Check(name, run)


async def _backend_checks(config: WorkerConfig, may_create: bool, stack: AsyncExitStack) -> Sequence[Check]:
    """Return the checks of the configured backend; import only what that backend needs."""
    entry = BACKENDS[config.backend_name]
    if entry.checks is None:
        return [_decided("backend", fail(str(entry.not_implemented())))]
    context = BackendContext(
        worker_id=config.worker_id,
        cleanup=config.cleanup,
        environ=os.environ,
        notify=ignore_event,
        peer=ControlPlanePeer(config.web_socket_url, config.server_root_url),
    )
    return await stack.enter_async_context(entry.checks(config.backend, context, may_create))


def _print_row(name: str, result: CheckResult, width: int) -> None:
    """Print a row, and below it what to change; both are indented so that the columns line up."""
    severity = click.style(f"{result.severity.value:<7}", fg=_COLOURS[result.severity])
    newline = "\n" + " " * (width + 3 + 7 + 3)
    detail = result.detail.replace("\n", newline)
    click.echo(f"{name:<{width}}   {severity}   {detail}")
    if result.fix:
        fix = result.fix.replace("\n", f"{newline}  ")
        click.echo(f"{newline[1:]}{click.style('fix:', bold=True)} {fix}")


def _print_summary(results: Sequence[tuple[str, CheckResult]]) -> None:
    """Print how many checks there were, and how many of each severity."""
    found = [result.severity for _, result in results]
    counts = ", ".join(f"{found.count(severity)} {severity}" for severity in Severity if severity in found)
    checks = "one check" if len(found) == 1 else f"{len(found)} checks"
    click.echo(f"\n{checks}: {counts}")


def _print_json(results: Sequence[tuple[str, CheckResult]]) -> None:
    """Print one object with all checks and the worst result; a skipped check is no failure."""
    found = {result.severity for _, result in results}
    worst = next((severity for severity in (Severity.FAIL, Severity.WARN) if severity in found), Severity.OK)
    checks = [
        # Scripts of version 0.1 read `mend`.
        {"name": name, "verdict": r.severity, "detail": r.detail, "fix": r.fix, "mend": r.fix}
        for name, r in results
    ]
    echo_json({"verdict": worst, "checks": checks})
