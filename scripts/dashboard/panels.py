"""The dashboard: which panels it has, in which rows."""

from typing import Final

from .model import Panel, Row, Step, Target
from .promql import INFRASTRUCTURE, chosen, per_second, quantile, ratio, summed

__all__ = ["ROWS"]

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GRAY = (
    "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e",
)  # fmt: skip
_RESULTS: Final = (("succeeded", GREEN), ("failed", RED), ("cancelled", GRAY), ("dispatched", BLUE))
_PHASES: Final = (("creating", PURPLE), ("pending", YELLOW), ("running", GREEN), ("finishing", BLUE))
_FAILURES: Final = "oz_worker_task_failures_total"
_COMPLETED: Final = "oz_worker_tasks_completed_total"
_SUCCEEDED: Final = f'{_COMPLETED}{{result="succeeded"}}'
_JUDGED: Final = f'{_COMPLETED}{{result=~"succeeded|failed"}}'
_INFRASTRUCTURE: Final = f"{_FAILURES}{{{INFRASTRUCTURE}}}"
_OWN: Final = f'{_FAILURES}{{reason=~"container_exit|container_oom|task_timeout|active_deadline"}}'
_REQUESTS: Final = "oz_worker_kubernetes_requests_total"
_NO_SUCCESS: Final = f'{_REQUESTS}{{code!~"2.."}}'
#: The headers of a watch, and of a log that is followed, come when there is something to tell.
_ANSWERED: Final = 'oz_worker_kubernetes_request_duration_seconds{verb!="watch", resource!="pods/log"}'


def _over_range(counter: str, *labels: str) -> str:
    return summed(f"increase({counter}[$__range])", *labels)


def _quantiles(histogram: str) -> tuple[Target, ...]:
    return tuple(Target(quantile(q, histogram), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99))


STATE: Final = Row(
    "State",
    (
        Panel(
            title="Connection",
            about="Whether each worker is connected to the control plane.",
            kind="stat",
            targets=(Target(summed("oz_worker_connected", "worker_id"), "{{worker_id}}", instant=True),),
            width=4,
            height=5,
            steps=(Step(RED), Step(GREEN, 1)),
            texts=(("0", "away"), ("1", "connected")),
        ),
        Panel(
            title="Active tasks",
            about="Tasks that take a slot.",
            kind="stat",
            targets=(Target(summed("oz_worker_tasks_active"), instant=True),),
            width=4,
            height=5,
            steps=(Step(BLUE),),
        ),
        Panel(
            title="Slots taken",
            about="Active tasks as a part of those that may be active; workers without a limit left out.",
            kind="gauge",
            targets=(
                Target(
                    ratio(
                        summed("(oz_worker_tasks_active and (oz_worker_tasks_max_concurrent > 0))"),
                        f"({summed('oz_worker_tasks_max_concurrent')} > 0)",
                    ),
                    instant=True,
                ),
            ),
            width=4,
            height=5,
            unit="percentunit",
            low=0,
            high=1,
            steps=(Step(GREEN), Step(YELLOW, 0.8), Step(RED, 1)),
        ),
        Panel(
            title="Succeeded",
            about="Of the tasks that succeeded or failed in the time that is shown.",
            kind="stat",
            targets=(Target(ratio(_over_range(_SUCCEEDED), _over_range(_JUDGED)), instant=True),),
            width=4,
            height=5,
            unit="percentunit",
            decimals=0,
            steps=(Step(RED), Step(YELLOW, 0.5), Step(GREEN, 0.8)),
        ),
        Panel(
            title="Oldest result that waits",
            about="For how long the control plane does not have a result yet; 0 where it has all.",
            kind="stat",
            targets=(Target(f"max ({chosen('oz_worker_outbox_oldest_seconds')})", instant=True),),
            width=4,
            height=5,
            unit="s",
            steps=(Step(GREEN), Step(YELLOW, 60), Step(RED, 900)),
        ),
        Panel(
            title="Workers",
            about="What runs.",
            kind="table",
            targets=(Target('oz_worker_info{worker_id=~"$worker_id"}', instant=True),),
            width=4,
            height=5,
            columns=(("worker_id", "worker"), ("backend", "backend"), ("version", "version")),
        ),
    ),
)

TASKS: Final = Row(
    "Tasks",
    (
        Panel(
            title="Tasks by phase",
            about="creating: until the backend has the work; pending: until the agent runs; finishing: from"
            " the outcome until its report is delivered and all is cleaned up.",
            kind="timeseries",
            targets=(Target(summed("oz_worker_tasks_by_phase", "phase"), "{{phase}}"),),
            width=8,
            stacked=True,
            low=0,
            colors=_PHASES,
        ),
        Panel(
            title="Slots",
            about="Active tasks, and how many may be; a worker without a limit has a limit of 0.",
            kind="timeseries",
            targets=(
                Target(summed("oz_worker_tasks_active", "worker_id"), "{{worker_id}}"),
                Target(summed("oz_worker_tasks_max_concurrent", "worker_id"), "{{worker_id}}: limit"),
            ),
            width=8,
            low=0,
        ),
        Panel(
            title="Claimed, rejected, taken over",
            about="Tasks a minute. What is rejected stays queued at the control plane.",
            kind="timeseries",
            targets=(
                Target(f"60 * {per_second('oz_worker_tasks_claimed_total')}", "claimed"),
                Target(f"60 * {per_second('oz_worker_tasks_taken_over_total')}", "taken over"),
                Target(
                    f"60 * ({per_second('oz_worker_tasks_rejected_total', 'reason')} > 0)",
                    "rejected: {{reason}}",
                ),
            ),
            width=8,
            low=0,
            colors=(("claimed", BLUE), ("taken over", PURPLE)),
        ),
        Panel(
            title="Tasks ended, by result",
            about="Tasks a minute.",
            kind="timeseries",
            targets=(Target(f"60 * {per_second(_COMPLETED, 'result')}", "{{result}}"),),
            width=24,
            height=6,
            stacked=True,
            low=0,
            colors=_RESULTS,
        ),
    ),
)

FAILURES: Final = Row(
    "Failures",
    (
        Panel(
            title="Failures by reason",
            about="Tasks a minute. The reasons are explained in docs/failure-reasons.md.",
            kind="timeseries",
            targets=(Target(f"60 * ({per_second(_FAILURES, 'reason')} > 0)", "{{reason}}"),),
            width=10,
            stacked=True,
            bars=True,
            low=0,
        ),
        Panel(
            title="Failures in the time shown, by phase and reason",
            about="A failure in the phase cleanup is no failure of its task.",
            kind="bargauge",
            targets=(
                Target(
                    f"sort_desc(round({_over_range(_FAILURES, 'phase', 'reason')}) > 0)",
                    "{{phase}}: {{reason}}",
                    instant=True,
                ),
            ),
            width=7,
            low=0,
            steps=(Step(ORANGE),),
        ),
        Panel(
            title="Whose failures",
            about="Of the tasks that succeeded or failed: those that failed through the infrastructure, and"
            " those that failed for a reason of their own (exit code, memory, time).",
            kind="timeseries",
            targets=(
                Target(ratio(per_second(_INFRASTRUCTURE), per_second(_JUDGED)), "infrastructure"),
                Target(ratio(per_second(_OWN), per_second(_JUDGED)), "the task's own"),
            ),
            width=7,
            unit="percentunit",
            low=0,
            high=1,
            colors=(("infrastructure", RED), ("the task's own", BLUE)),
        ),
    ),
)

DURATIONS: Final = Row(
    "Durations",
    (
        Panel(
            title="From assignment to outcome",
            about="oz_worker_task_duration_seconds: waiting for a Pod and the work together.",
            kind="timeseries",
            targets=_quantiles("oz_worker_task_duration_seconds"),
            width=8,
            unit="s",
            low=0,
        ),
        Panel(
            title="From start to end, by result (median)",
            about="From when the agent was seen to run.",
            kind="timeseries",
            targets=(Target(quantile(0.5, "oz_worker_task_start_to_end_seconds", "result"), "{{result}}"),),
            width=8,
            unit="s",
            low=0,
            colors=_RESULTS,
        ),
        Panel(
            title="From queue to start",
            about="Since the run was created, by the control plane's clock, until its agent was seen to run.",
            kind="timeseries",
            targets=_quantiles("oz_worker_task_queue_to_start_seconds"),
            width=8,
            unit="s",
            low=0,
        ),
    ),
)

LINK: Final = Row(
    "Control plane",
    (
        Panel(
            title="Connections made again",
            about="A minute. dial_failed: the attempt before failed or was refused; remote_close: the"
            " connection ended.",
            kind="timeseries",
            targets=(
                Target(
                    f"60 * {per_second('oz_worker_websocket_reconnects_total', 'reason')}",
                    "{{reason}}",
                ),
            ),
            width=12,
            height=6,
            stacked=True,
            low=0,
            colors=(("dial_failed", RED), ("remote_close", ORANGE)),
        ),
        Panel(
            title="Outbox",
            about="Results that the control plane does not have yet.",
            kind="timeseries",
            targets=(Target(summed("oz_worker_outbox_reports", "worker_id"), "{{worker_id}}"),),
            width=6,
            height=6,
            low=0,
        ),
        Panel(
            title="Oldest result in the outbox",
            about="For how long it waits.",
            kind="timeseries",
            targets=(
                Target(f"max by (worker_id) ({chosen('oz_worker_outbox_oldest_seconds')})", "{{worker_id}}"),
            ),
            width=6,
            height=6,
            unit="s",
            low=0,
        ),
    ),
)

KUBERNETES: Final = Row(
    "Kubernetes API",
    (
        Panel(
            title="Requests",
            about="Requests a second, each attempt counted.",
            kind="timeseries",
            targets=(Target(per_second(_REQUESTS, "verb", "resource"), "{{verb}} {{resource}}"),),
            width=8,
            unit="reqps",
            stacked=True,
            low=0,
        ),
        Panel(
            title="Answers that are no success, by code",
            about="Requests a second. none: no answer came.",
            kind="timeseries",
            targets=(Target(f"{per_second(_NO_SUCCESS, 'code')} > 0", "{{code}}"),),
            width=8,
            unit="reqps",
            stacked=True,
            bars=True,
            low=0,
        ),
        Panel(
            title="Time to the answer, by verb (p99)",
            about="Until the answer's headers; watches and logs left out.",
            kind="timeseries",
            targets=(Target(quantile(0.99, _ANSWERED, "verb"), "{{verb}}"),),
            width=8,
            unit="s",
            low=0,
        ),
    ),
)

WATCHES: Final = Row(
    "Watches and process",
    (
        Panel(
            title="Watch lag",
            about="Since the API server last told the watch anything: about a minute at most where all is"
            " well.",
            kind="timeseries",
            targets=(
                Target(
                    f"max by (worker_id, resource) ({chosen('oz_worker_kubernetes_watch_lag_seconds')})",
                    "{{worker_id}}: {{resource}}",
                ),
            ),
            width=8,
            unit="s",
            low=0,
        ),
        Panel(
            title="Watches opened again",
            about="A minute. ended: the server ended it, as asked; error: it was interrupted; relist: its"
            " place was lost.",
            kind="timeseries",
            targets=(
                Target(
                    f"60 * {per_second('oz_worker_kubernetes_watch_restarts_total', 'resource', 'reason')}",
                    "{{resource}}: {{reason}}",
                ),
            ),
            width=8,
            low=0,
        ),
        Panel(
            title="Event-loop lag",
            about="By how much the worker's timers are late.",
            kind="timeseries",
            targets=_quantiles("oz_worker_event_loop_lag_seconds"),
            width=8,
            unit="s",
            low=0,
        ),
    ),
)

ROWS: Final = (STATE, TASKS, FAILURES, DURATIONS, LINK, KUBERNETES, WATCHES)
