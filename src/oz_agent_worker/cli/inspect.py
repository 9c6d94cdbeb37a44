"""``tasks``, ``explain`` and ``collect``: what the cluster knows of tasks, whoever assigned them."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from oz_agent_worker.errors import BackendError, ExitCode, UsageError
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import Credentials, load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError, ForbiddenError, UnauthorizedError
from oz_agent_worker.worker.backends.kubernetes.inspection.bundle import bundle, deleted_job_files
from oz_agent_worker.worker.backends.kubernetes.inspection.deleted_jobs import DeletedJob, explain_deleted
from oz_agent_worker.worker.backends.kubernetes.inspection.evidence import EvidenceCollector, write_private
from oz_agent_worker.worker.backends.kubernetes.inspection.explain import explain as explained
from oz_agent_worker.worker.backends.kubernetes.inspection.inspector import Inspector, TaskRow
from oz_agent_worker.worker.backends.kubernetes.inspection.render_text import render_text
from oz_agent_worker.worker.backends.kubernetes.inspection.task_jobs import NoSuchTaskError, TaskJob
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import State
from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import INSPECTION, summary
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, observation_policy
from oz_agent_worker.worker.config.load import WorkerFlags, read_file
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .output import age, echo_json, output_option, table
from .worker_config import load_worker_config

__all__ = ["collect", "explain", "tasks"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_COLOURS: Final[Mapping[State, str]] = {
    State.RUNNING: "cyan", State.SUCCEEDED: "green", State.FAILED: "red", State.ENDING: "yellow",
}  # fmt: skip


def cluster_options(function: F) -> F:
    """Give a command the flags that say which cluster, namespace and worker are looked at."""
    for option in reversed(
        (
            click.option("--config-file", metavar="FILE", help="The worker's YAML config file."),
            click.option(
                "--kubeconfig", metavar="FILE", help="Default: the config file's, else the usual rules."
            ),
            click.option(
                "-n", "--namespace", metavar="NAME", help="Default: the config file's, else the context's."
            ),
            click.option(
                "--worker-id", metavar="ID", help="Only this worker's tasks. Default: the config file's."
            ),
            click.option("-A", "--all-workers", is_flag=True, help="The tasks of all workers."),
        )
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to look. Without a namespace it is the one of the kubeconfig's context."""

    config: KubernetesConfig
    namespace: str | None
    worker_id: str | None


@dataclass(frozen=True, slots=True)
class _Session:
    client: KubernetesClient
    inspector: Inspector
    namespace: str
    policy: ObservationPolicy


@click.command("tasks")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State if state is not State.GONE], case_sensitive=False),
    help="Only tasks in this state; repeatable.",
)
@cluster_options
@output_option
@click.pass_context
def tasks(ctx: click.Context, /, states: tuple[str, ...], output: str, **where: Any) -> int:
    """List the tasks that stand as Jobs in the cluster, the oldest first.

    Asks the cluster alone: no control plane, no API key. A task that succeeded is gone as
    soon as its result is delivered.

    \b
    Examples:
      oz-agent-worker tasks --config-file worker.yaml
      oz-agent-worker tasks -n agents --all-workers --state failed
    """

    place = _place(ctx, where)

    async def use(session: _Session) -> int:
        rows = [row for row in await session.inspector.tasks() if not states or row.state in states]
        if output == "json":
            echo_json(rows)
        elif rows:
            click.echo(_as_table(rows, with_worker=place.worker_id is None))
        else:
            click.echo(f"no tasks found in namespace {session.namespace}", err=True)
        return ExitCode.OK

    return _in_cluster(place, use)


def _as_table(rows: list[TaskRow], *, with_worker: bool) -> str:
    header = ["TASK", "STATE", "REASON", "AGE", "POD", "NODE", *(["WORKER"] if with_worker else [])]
    lines = []
    for row in rows:
        state = click.style(row.state.value, fg=_COLOURS.get(row.state))
        line = [row.task_id, state, row.reason or "-", age(row.created), row.pod or "-", row.node or "-"]
        lines.append([*line, row.worker or "-"] if with_worker else line)
    return table(header, lines)


@click.command("explain")
@click.argument("task")
@cluster_options
@output_option
@click.pass_context
def explain(ctx: click.Context, /, task: str, output: str, **where: Any) -> int:
    """Say where TASK is, and what it waits for or why it ended.

    TASK is a task ID, an execution ID, the name of a Job or of its Pod, or the beginning
    of one. Asks the cluster alone: no control plane, no API key. Of a Job that is gone events
    tell for an hour.

    \b
    Examples:
      oz-agent-worker explain RUN_ID -n agents
      oz-agent-worker explain RUN_ID -n agents --output json | jq -r .reason
    """

    async def use(session: _Session) -> int:
        jobs: list[TaskJob] = []
        try:
            jobs = await session.inspector.find(task)
            explanation = explained(await session.inspector.facts(jobs[0]))
        except NoSuchTaskError as error:
            trace = await _trace(session, task, error)
            explanation = explain_deleted(trace, session.namespace, datetime.now(UTC))
        if output == "json":
            echo_json(explanation)
            return ExitCode.OK
        headline, newline, rest = render_text(explanation, datetime.now(UTC)).partition("\n")
        click.echo(click.style(headline, bold=True, fg=_COLOURS.get(explanation.state)) + newline + rest)
        _tell_others(jobs)
        return ExitCode.OK

    return _in_cluster(_place(ctx, where), use)


async def _trace(session: _Session, task: str, error: NoSuchTaskError) -> DeletedJob:
    """What events tell of a task that has no Job.

    Raises:
        NoSuchTaskError: nothing; it is the ``error`` that was met before.
    """
    trace = await session.inspector.trace(task)
    if trace is None:
        raise error
    return trace


def _tell_others(jobs: list[TaskJob]) -> None:
    if len(jobs) > 1:
        others = ", ".join(job.key.execution_id for job in jobs[1:])
        click.echo(f"This is the newest execution; explain one of the others by its ID: {others}", err=True)


@click.command("collect")
@click.argument("task")
@click.option(
    "-f", "--file", metavar="FILE", help="Where to write; - is standard output. Default: JOB.tar.gz here."
)
@cluster_options
@click.pass_context
def collect(ctx: click.Context, /, task: str, file: str | None, **where: Any) -> int:
    """Pack all that the cluster holds of TASK into a tar file.

    Its explanation, the Job and its Pods with their status, their events, the logs of all
    their containers. The values of variables and the keys in the agent's arguments are
    hidden; what a task prints is not, unless it is one of those. Of a task whose Job is gone,
    what events still tell.

    \b
    Examples:
      oz-agent-worker collect RUN_ID -n agents
      oz-agent-worker collect RUN_ID -n agents --file - | tar tz
    """

    async def use(session: _Session) -> int:
        job, content = await _collected(session, task)
        if file == "-":
            sys.stdout.buffer.write(content)
            return ExitCode.OK
        path = Path(file or f"{job}.tar.gz")
        try:
            write_private(path, content)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        click.echo(f"{path} ({len(content)} bytes)")
        return ExitCode.OK

    return _in_cluster(_place(ctx, where), use)


async def _collected(session: _Session, task: str) -> tuple[str, bytes]:
    """The name of the task's Job, and its bundle: of a Job that is gone, what events tell."""
    try:
        job = (await session.inspector.find(task))[0].metadata.name
    except NoSuchTaskError as error:
        trace, now = await _trace(session, task, error), datetime.now(UTC)
        return trace.job, bundle(trace.job, deleted_job_files(trace, session.namespace, now), now)
    collector = EvidenceCollector(session.client, session.namespace, session.policy)
    return job, await collector.collect(job)


# --------------------------------------------------------------------------------- the cluster


def _place(ctx: click.Context, where: Mapping[str, Any]) -> _Place:
    """Join the command's flags with those before it and with the config file; flags win.

    Raises:
        ConfigError: the config file is wrong.
        UsageError: it is not for Kubernetes.
    """
    outer: Mapping[str, Any] = ctx.obj or {}
    file = where["config_file"] or outer.get("config_file")
    worker_id = where["worker_id"] or outer.get("worker_id")
    config, namespace = KubernetesConfig(), None
    if file:
        loaded = load_worker_config(WorkerFlags(config_file=file), os.environ, needs_key=False)
        if not isinstance(loaded.backend, KubernetesConfig):
            raise UsageError(
                f"{file} is for the {loaded.backend_name} backend: its tasks are not in a cluster"
            )
        config, namespace = loaded.backend, loaded.backend.namespace
        worker_id = worker_id or read_file(file)[0].worker_id
    kubeconfig = where["kubeconfig"] or config.kubeconfig
    return _Place(
        config=dataclasses.replace(config, kubeconfig=kubeconfig),
        namespace=where["namespace"] or namespace,
        worker_id=None if where["all_workers"] else worker_id,
    )


def _in_cluster(place: _Place, use: Callable[[_Session], Awaitable[int]]) -> int:
    """Connect, do the work, and return its exit code."""

    async def main() -> int:
        async with _session(place) as session:
            return await use(session)

    return asyncio.run(main())


@asynccontextmanager
async def _session(place: _Place) -> AsyncIterator[_Session]:
    credentials = load_credentials(place.config.kubeconfig, environ=os.environ)
    namespace = place.namespace or credentials.namespace or place.config.namespace
    policy = observation_policy(place.config, ObservationPolicy())
    async with KubernetesClient(credentials) as client:
        inspector = Inspector(client, namespace, worker_id=place.worker_id, policy=policy)
        try:
            yield _Session(client, inspector, namespace, policy)
        except ApiError as error:
            raise BackendError(_words(error, credentials, namespace)) from error


def _words(error: ApiError, credentials: Credentials, namespace: str) -> str:
    if isinstance(error, ForbiddenError):
        return (
            f"{credentials.description} may not read tasks in namespace {namespace!r}: {error.message}."
            f" Needed are {summary(INSPECTION)}"
        )
    if isinstance(error, UnauthorizedError):
        return (
            f"the API server {credentials.server} does not accept the credentials of"
            f" {credentials.description}: they may have expired; log in to the cluster again"
        )
    return f"{error} ({credentials.description})"
