"""``tasks``, ``explain`` and ``collect``: show what the cluster knows of tasks, without a control plane."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
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
from oz_agent_worker.worker.backends.kubernetes.preflight.template_check import creation_obstacle
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, observation_policy
from oz_agent_worker.worker.config.load import WorkerFlags, read_file
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .output import age, echo_json, output_option, table
from .worker_config import load_worker_config

__all__ = ["collect", "explain", "tasks"]

F = TypeVar("F", bound=Callable[..., Any])

_COLOURS: Final[Mapping[State, str]] = {
    State.RUNNING: "cyan", State.SUCCEEDED: "green", State.FAILED: "red", State.ENDING: "yellow",
}  # fmt: skip


def cluster_options(function: F) -> F:
    """Add the options that choose cluster, namespace and worker."""
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
class _Cluster:
    """The cluster that a command looks into; ``worker_id`` is ``None`` for the tasks of all workers.

    ``config`` is the worker's, as far as it is known.
    """

    client: KubernetesClient
    inspector: Inspector
    namespace: str
    worker_id: str | None
    policy: ObservationPolicy
    config: KubernetesConfig

    async def find(self, task: str) -> list[TaskJob] | DeletedJob:
        """Return the Jobs of a task, the newest first, or what events show of a deleted one.

        Raises:
            NoSuchTaskError: neither exists.
        """
        try:
            return await self.inspector.find(task)
        except NoSuchTaskError as error:
            deleted = await self.inspector.find_deleted(task)
            if deleted is not None:
                return deleted
            obstacle = await creation_obstacle(self.client, self.config)
            if obstacle is None:
                raise
            raise NoSuchTaskError(f"{error} And none is created at present: {obstacle}") from None


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
    """List the tasks that have a Job in the cluster, the oldest first.

    Asks the cluster alone: no control plane, no API key. The Job of a task that succeeded is
    deleted as soon as its result is delivered.

    \b
    Examples:
      oz-agent-worker tasks --config-file worker.yaml
      oz-agent-worker tasks -n agents --all-workers --state failed
    """

    async def show(cluster: _Cluster) -> None:
        rows = [row for row in await cluster.inspector.tasks() if not states or row.state in states]
        if output == "json":
            echo_json(rows)
        elif rows:
            click.echo(_as_table(rows, with_worker=cluster.worker_id is None))
        else:
            click.echo(f"no tasks found in namespace {cluster.namespace}", err=True)

    return _in_cluster(ctx, where, show)


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
    of one. Asks the cluster alone: no control plane, no API key. The events of a
    deleted Job are kept for an hour.

    \b
    Examples:
      oz-agent-worker explain RUN_ID -n agents
      oz-agent-worker explain RUN_ID -n agents --output json | jq -r .reason
    """

    async def show(cluster: _Cluster) -> None:
        found = await cluster.find(task)
        if isinstance(found, DeletedJob):
            explanation = explain_deleted(found, cluster.namespace, datetime.now(UTC))
        else:
            explanation = explained(await cluster.inspector.snapshot(found[0]))
        if output == "json":
            echo_json(explanation)
            return
        headline, newline, rest = render_text(explanation, datetime.now(UTC)).partition("\n")
        click.echo(click.style(headline, bold=True, fg=_COLOURS.get(explanation.state)) + newline + rest)
        if not isinstance(found, DeletedJob) and len(found) > 1:
            others = ", ".join(job.key.execution_id for job in found[1:])
            click.echo(
                f"This is the newest execution; explain one of the others by its ID: {others}", err=True
            )

    return _in_cluster(ctx, where, show)


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
    hidden; what a task prints is not, unless it is one of those. Of a task whose Job is deleted,
    what events still show.

    \b
    Examples:
      oz-agent-worker collect RUN_ID -n agents
      oz-agent-worker collect RUN_ID -n agents --file - | tar tz
    """

    async def write(cluster: _Cluster) -> None:
        found = await cluster.find(task)
        if isinstance(found, DeletedJob):
            name, now = found.name, datetime.now(UTC)
            content = bundle(name, deleted_job_files(found, cluster.namespace, now), now)
        else:
            name = found[0].metadata.name
            collector = EvidenceCollector(cluster.client, cluster.namespace, cluster.policy)
            content = await collector.collect(name)
        if file == "-":
            sys.stdout.buffer.write(content)
            return
        path = Path(file or f"{name}.tar.gz")
        try:
            write_private(path, content)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        click.echo(f"{path} ({len(content)} bytes)")

    return _in_cluster(ctx, where, write)


# --------------------------------------------------------------------------------- the cluster


def _in_cluster(
    ctx: click.Context, where: Mapping[str, Any], use: Callable[[_Cluster], Awaitable[None]]
) -> int:
    """Connect to the cluster that the options choose, and call ``use``; return the exit code.

    The command's options win over those before it, and these over the config file. Without a
    namespace it is the one of the kubeconfig's context.

    Raises:
        ConfigError: the config file is wrong.
        UsageError: it is not for Kubernetes.
        BackendError: the API server cannot be asked.
    """
    outer: Mapping[str, Any] = ctx.obj or {}
    worker_id = where["worker_id"] or outer.get("worker_id")
    config, namespace = KubernetesConfig(), where["namespace"]
    if file := where["config_file"] or outer.get("config_file"):
        loaded = load_worker_config(WorkerFlags(config_file=file), os.environ, needs_key=False)
        if not isinstance(loaded.backend, KubernetesConfig):
            raise UsageError(
                f"{file} is for the {loaded.backend_name} backend: its tasks are not in a cluster"
            )
        config, namespace = loaded.backend, namespace or loaded.backend.namespace
        worker_id = worker_id or read_file(file)[0].worker_id
    worker_id = None if where["all_workers"] else worker_id

    async def main() -> None:
        credentials = load_credentials(where["kubeconfig"] or config.kubeconfig, environ=os.environ)
        place = namespace or credentials.namespace or config.namespace
        policy = observation_policy(config, ObservationPolicy())
        async with KubernetesClient(credentials) as client:
            inspector = Inspector(client, place, worker_id=worker_id, policy=policy)
            try:
                await use(
                    _Cluster(client, inspector, place, worker_id, policy, replace(config, namespace=place))
                )
            except ApiError as error:
                raise BackendError(_describe_error(error, credentials, place)) from error

    asyncio.run(main())
    return ExitCode.OK


def _describe_error(error: ApiError, credentials: Credentials, namespace: str) -> str:
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
