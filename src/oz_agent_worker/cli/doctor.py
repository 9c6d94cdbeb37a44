"""``doctor``: whether this worker could run tasks, a verdict a line."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import click

from oz_agent_worker.errors import ConfigError, ExitCode
from oz_agent_worker.worker.backends.registry import BACKENDS, BackendContext, BackendEntry
from oz_agent_worker.worker.checks import Check, Finding, Severity, Verdict, examine, fail, ok
from oz_agent_worker.worker.config.load import WorkerConfig

from .control_plane_checks import peer_checks
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
        config = load_worker_config(flags, os.environ, needs_key=False)
    except ConfigError as error:
        verdict = fail(str(error), "correct the flags or the config file")
        show = _Table([_CONFIGURATION]) if output == "table" else _Json()
        show.add(Finding(_CONFIGURATION, verdict))
        show.end()
        return ExitCode.PREFLIGHT
    try:
        findings = asyncio.run(_examine(config, source=flags.config_file, with_job=not no_job, output=output))
    except asyncio.CancelledError:
        raise click.Abort from None
    failed = any(finding.verdict.grade is Severity.FAIL for finding in findings)
    return ExitCode.PREFLIGHT if failed else ExitCode.OK


async def _examine(config: WorkerConfig, *, source: str | None, with_job: bool, output: str) -> list[Finding]:
    """Make all checks and show them."""
    task = asyncio.current_task()
    assert task is not None
    # A preflight Job is deleted when the program is told to end, too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        checks = [_configuration(config, source), *await _backend_checks(config, with_job, stack)]
        checks += peer_checks(config, os.environ)
        show = _Table([check.name for check in checks]) if output == "table" else _Json()
        async for finding in examine(checks):
            show.add(finding)
        show.end()
    return show.findings


def _configuration(config: WorkerConfig, source: str | None) -> Check:
    async def check() -> Verdict:
        where = source or "flags alone"
        notices = "".join(f"; {notice}" for notice in config.notices)
        return ok(f"{where}: backend {config.backend_name}, worker ID {config.worker_id}{notices}")

    return Check(_CONFIGURATION, check)


async def _backend_checks(config: WorkerConfig, may_create: bool, stack: AsyncExitStack) -> Sequence[Check]:
    """The checks of the configured backend; only its own libraries are imported."""
    entry = BACKENDS[config.backend_name]
    if entry.checks is None:
        return [Check("backend", partial(_not_implemented, entry))]
    context = BackendContext(worker_id=config.worker_id, cleanup=config.cleanup, environ=os.environ)
    return await stack.enter_async_context(entry.checks(config.backend, context, may_create))


async def _not_implemented(entry: BackendEntry) -> Verdict:
    raise entry.not_implemented()


# ------------------------------------------------------------------------------ what is shown


class _Table:
    """A line a finding, printed as soon as it is there; ``names`` are all that may come."""

    def __init__(self, names: Sequence[str]) -> None:
        self.findings: list[Finding] = []
        self._width = max(map(len, names))
        click.echo(f"{'CHECK':<{self._width}}   VERDICT   DETAIL")

    def add(self, finding: Finding) -> None:
        """Print a row, and below it what to change; both indented so that the columns stay columns."""
        self.findings.append(finding)
        verdict = finding.verdict
        grade = click.style(f"{verdict.grade.value:<7}", fg=_COLOURS[verdict.grade])
        indent = " " * (self._width + 3 + 7 + 3)
        click.echo(f"{finding.name:<{self._width}}   {grade}   {_indented(verdict.detail, indent)}")
        if verdict.mend:
            mend = click.style("mend:", bold=True)
            click.echo(f"{indent}{mend} {_indented(verdict.mend, indent + '  ')}")

    def end(self) -> None:
        """Print how many of each grade there were."""
        counted = ((grade, sum(f.verdict.grade is grade for f in self.findings)) for grade in Severity)
        told = ", ".join(f"{number} {grade.value}" for grade, number in counted if number)
        checks = "one check" if len(self.findings) == 1 else f"{len(self.findings)} checks"
        click.echo(f"\n{checks}: {told}")


def _indented(text: str, indent: str) -> str:
    return text.replace("\n", f"\n{indent}")


class _Json:
    """One object at the end, for programs."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Keep a finding."""
        self.findings.append(finding)

    def end(self) -> None:
        """Print all of them, and the worst verdict (a skipped check is no fault)."""
        grades = {finding.verdict.grade for finding in self.findings}
        worst = next((grade for grade in (Severity.FAIL, Severity.WARN) if grade in grades), Severity.OK)
        checks = [{"name": f.name, **_as_data(f.verdict)} for f in self.findings]
        echo_json({"verdict": worst.value, "checks": checks})


def _as_data(verdict: Verdict) -> dict[str, str]:
    return {"verdict": verdict.grade.value, "detail": verdict.detail, "mend": verdict.mend}
