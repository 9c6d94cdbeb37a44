"""Every metric of the worker: its name, kind, labels and meaning. Pure data.

The instruments are made from this table and docs/metrics.md is written from it. Names are
exact: the Prometheus output has no suffix that is not here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from oz_agent_worker.protocol.failure_reasons import FailureReason, RejectionReason
from oz_agent_worker.protocol.outcome import FailurePhase, TaskResult

__all__ = ["METRICS", "Kind", "Label", "Metric", "label_sets", "metrics_for"]

Kind: TypeAlias = Literal["counter", "up-down counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Label:
    """A label. ``values`` are all possible ones; where they are not known beforehand, ``note`` says more."""

    name: str
    values: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. ``backend``: only workers with that backend have it. ``buckets`` are upper bounds."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    labels: tuple[Label, ...] = ()
    backend: str | None = None
    buckets: tuple[float, ...] = ()


def _values(names: type[StrEnum]) -> tuple[str, ...]:
    return tuple(name.value for name in names)


_RESULT: Final = Label("result", _values(TaskResult))
_RESOURCE: Final = Label("resource", ("jobs", "pods"))
_VERB: Final = Label("verb", note="RBAC's verbs: create, get, list, watch, delete")
_ASKED: Final = Label("resource", note="the API's names: jobs, pods, pods/log, events, secrets, …")

#: From seconds, for a trivial task, to a day.
_TASK_SECONDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
                        14400.0, 28800.0, 86400.0)  # fmt: skip
_START_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
                         3600.0)  # fmt: skip
_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

METRICS: Final = (
    Metric(
        name="oz_worker_connected",
        kind="gauge",
        meaning="1 while the worker is connected to the control plane, else 0.",
    ),
    Metric(
        name="oz_worker_tasks_active",
        kind="up-down counter",
        meaning="Tasks that take a slot: from the assignment until the outcome is known.",
    ),
    Metric(
        name="oz_worker_tasks_max_concurrent",
        kind="gauge",
        meaning="The most tasks that may be active at a time; 0 is unlimited.",
    ),
    Metric(
        name="oz_worker_tasks_claimed_total",
        kind="counter",
        meaning="Tasks that the worker claimed.",
    ),
    Metric(
        name="oz_worker_tasks_rejected_total",
        kind="counter",
        meaning="Tasks that were handed back to the control plane, where they stay queued.",
        labels=(Label("reason", _values(RejectionReason)),),
    ),
    Metric(
        name="oz_worker_tasks_completed_total",
        kind="counter",
        meaning="Tasks whose outcome became known.",
        labels=(_RESULT,),
    ),
    Metric(
        name="oz_worker_task_duration_seconds",
        kind="histogram",
        meaning="From a task's assignment until its outcome was known. Tasks that were adopted are left out.",
        unit="s",
        labels=(_RESULT,),
        buckets=_TASK_SECONDS,
    ),
    Metric(
        name="oz_worker_task_failures_total",
        kind="counter",
        meaning="Failures by phase and reason; see failure-reasons.md. If something that a finished"
        " task left could not be removed, that counts with the phase and reason"
        " `cleanup`; such a task did not fail.",
        labels=(
            Label("phase", _values(FailurePhase)),
            Label("reason", _values(FailureReason)),
        ),
    ),
    Metric(
        name="oz_worker_websocket_reconnects_total",
        kind="counter",
        meaning="Attempts to reconnect, because the attempt before failed or was refused, or"
        " because the connection ended.",
        labels=(Label("reason", ("dial_failed", "remote_close")),),
    ),
    Metric(
        name="oz_worker_info",
        kind="gauge",
        meaning="Always 1.",
        labels=(Label("version"), Label("backend"), Label("worker_id")),
    ),
    Metric(
        name="oz_worker_tasks_taken_over_total",
        kind="counter",
        meaning="Tasks of an earlier worker that this one continues.",
    ),
    Metric(
        name="oz_worker_tasks_by_phase",
        kind="up-down counter",
        meaning="Tasks that the worker holds: `creating` until the backend has the work, `pending` until"
        " the agent runs, `running`, and `finishing` from the outcome until its report is"
        " delivered and everything is cleaned up.",
        labels=(Label("phase", ("creating", "pending", "running", "finishing")),),
    ),
    Metric(
        name="oz_worker_task_queue_to_start_seconds",
        kind="histogram",
        meaning="Until the worker saw the task's agent run: since the run was `created`, by the control"
        " plane's clock and the worker's (never below 0; a run that is executed again counts from its"
        " first creation), or since it was `assigned`, where the control plane sends no time of creation."
        " Tasks that were adopted are left out.",
        unit="s",
        labels=(Label("since", ("created", "assigned")),),
        buckets=_START_SECONDS,
    ),
    Metric(
        name="oz_worker_task_start_to_end_seconds",
        kind="histogram",
        meaning="From when the worker saw the task's agent run until the task's outcome was known. Tasks"
        " that were adopted, or whose agent was never seen running, are left out.",
        unit="s",
        labels=(_RESULT,),
        buckets=_TASK_SECONDS,
    ),
    Metric(
        name="oz_worker_outbox_reports",
        kind="gauge",
        meaning="Terminal reports that the control plane does not have yet.",
    ),
    Metric(
        name="oz_worker_outbox_oldest_seconds",
        kind="gauge",
        meaning="Age of the oldest of them; 0 where there is none.",
        unit="s",
    ),
    Metric(
        name="oz_worker_event_loop_lag_seconds",
        kind="histogram",
        meaning="How late a timer of the worker was; one sample a second.",
        unit="s",
        buckets=_LAG_SECONDS,
    ),
    Metric(
        name="oz_worker_kubernetes_requests_total",
        kind="counter",
        meaning="Requests to the API server, each attempt counted; `code` is the HTTP status,"
        " `none` without an answer.",
        labels=(_VERB, _ASKED, Label("code", note="HTTP status codes, none")),
        backend="kubernetes",
    ),
    Metric(
        name="oz_worker_kubernetes_request_duration_seconds",
        kind="histogram",
        meaning="From a request until the headers of its answer, or until it failed. The headers of a"
        " log that is followed (`pods/log`) come with its first line.",
        unit="s",
        labels=(_VERB, _ASKED),
        backend="kubernetes",
        buckets=_REQUEST_SECONDS,
    ),
    Metric(
        name="oz_worker_kubernetes_watch_restarts_total",
        kind="counter",
        meaning="Watches that had to be opened again: the server `ended` it (about every five minutes, as"
        " requested), an `error` interrupted it, or its resource version had expired and a"
        " `relist` came first.",
        labels=(_RESOURCE, Label("reason", ("ended", "error", "relist"))),
        backend="kubernetes",
    ),
    Metric(
        name="oz_worker_kubernetes_watch_lag_seconds",
        kind="gauge",
        meaning="Since the API server last sent the watch anything. It sends a bookmark about once a"
        " minute where nothing happens.",
        unit="s",
        labels=(_RESOURCE,),
        backend="kubernetes",
    ),
)


def metrics_for(backend: str) -> Mapping[str, Metric]:
    """Return the metrics of a worker with this backend, by name."""
    return MappingProxyType({m.name: m for m in METRICS if m.backend in (None, backend)})


def label_sets(metric: Metric) -> Iterator[dict[str, str]]:
    """Yield every combination of a metric's labels; none where they are not known beforehand."""
    names = [label.name for label in metric.labels]
    for values in product(*(label.values for label in metric.labels)):
        yield dict(zip(names, values, strict=True))
