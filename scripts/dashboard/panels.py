"""The dashboard: which panels it has, in which rows."""

from typing import Final

from .grafana import Panel, Row, Target
from .promql import INFRASTRUCTURE, TASKS_OWN, chosen, per_second, quantile, ratio, summed

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
_OWN: Final = f'{_FAILURES}{{reason=~"{TASKS_OWN}"}}'
_REQUESTS: Final = "oz_worker_kubernetes_requests_total"
_NO_SUCCESS: Final = f'{_REQUESTS}{{code!~"2.."}}'
#: Watches and followed logs send their headers with the first event or line, so they are left out.
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
            thresholds=((RED, None), (GREEN, 1)),
            texts=(("0", "away"), ("1", "connected")),
        ),
        Panel(
            title="Active tasks",
            about="Tasks that occupy a slot.",
            kind="stat",
            targets=(Target(summed("oz_worker_tasks_active"), instant=True),),
            width=4,
            height=5,
            thresholds=((BLUE, None),),
        ),
        Panel(
            title="Slots taken",
            about="Active tasks as a share of the limit, without workers that have none.",
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
            high=1,
            thresholds=((GREEN, None), (YELLOW, 0.8), (RED, 1)),
        ),
        Panel(
            title="Succeeded",
            about="Share of the tasks that succeeded or failed in the time shown.",
            kind="stat",
            targets=(Target(ratio(_over_range(_SUCCEEDED), _over_range(_JUDGED)), instant=True),),
            width=4,
            height=5,
            unit="percentunit",
            decimals=0,
            thresholds=((RED, None), (YELLOW, 0.5), (GREEN, 0.8)),
        ),
        Panel(
            title="Oldest undelivered result",
            about="How long the oldest result has waited for its delivery; 0 without one.",
            kind="stat",
            targets=(Target(f"max ({chosen('oz_worker_outbox_oldest_seconds')})", instant=True),),
            width=4,
            height=5,
            unit="s",
            thresholds=((GREEN, None), (YELLOW, 60), (RED, 900)),
        ),
        Panel(
            title="Workers",
            about="The workers, their backends and versions.",
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
            " the outcome until its report is delivered and everything is cleaned up.",
            targets=(Target(summed("oz_worker_tasks_by_phase", "phase"), "{{phase}}"),),
            stacked=True,
            colors=_PHASES,
        ),
        Panel(
            title="Slots",
            about="Active tasks and their limit; 0 is a worker without a limit.",
            targets=(
                Target(summed("oz_worker_tasks_active", "worker_id"), "{{worker_id}}"),
                Target(summed("oz_worker_tasks_max_concurrent", "worker_id"), "{{worker_id}}: limit"),
            ),
        ),
        Panel(
            title="Claimed, rejected, adopted",
            about="Tasks per minute. A rejected task stays queued at the control plane.",
            targets=(
                Target(f"60 * {per_second('oz_worker_tasks_claimed_total')}", "claimed"),
                Target(f"60 * {per_second('oz_worker_tasks_taken_over_total')}", "adopted"),
                Target(
                    f"60 * ({per_second('oz_worker_tasks_rejected_total', 'reason')} > 0)",
                    "rejected: {{reason}}",
                ),
            ),
            colors=(("claimed", BLUE), ("adopted", PURPLE)),
        ),
        Panel(
            title="Tasks ended, by result",
            about="Tasks per minute.",
            targets=(Target(f"60 * {per_second(_COMPLETED, 'result')}", "{{result}}"),),
            width=24,
            height=6,
            stacked=True,
            colors=_RESULTS,
        ),
    ),
)

FAILURES: Final = Row(
    "Failures",
    (
        Panel(
            title="Failures by reason",
            about="Tasks per minute. The reasons are explained in docs/failure-reasons.md.",
            targets=(Target(f"60 * ({per_second(_FAILURES, 'reason')} > 0)", "{{reason}}"),),
            width=10,
            stacked=True,
            bars=True,
        ),
        Panel(
            title="Failures in the time shown, by phase and reason",
            about="A failure in the phase cleanup does not fail its task.",
            kind="bargauge",
            targets=(
                Target(
                    f"sort_desc(round({_over_range(_FAILURES, 'phase', 'reason')}) > 0)",
                    "{{phase}}: {{reason}}",
                    instant=True,
                ),
            ),
            width=7,
            thresholds=((ORANGE, None),),
        ),
        Panel(
            title="Whose failures",
            about="Share of the tasks that succeeded or failed: failures of the infrastructure, and failures"
            " of the tasks themselves (exit code, memory, time).",
            targets=(
                Target(ratio(per_second(_INFRASTRUCTURE), per_second(_JUDGED)), "infrastructure"),
                Target(ratio(per_second(_OWN), per_second(_JUDGED)), "the task's own"),
            ),
            width=7,
            unit="percentunit",
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
            about="oz_worker_task_duration_seconds: the wait for a Pod and the work.",
            targets=_quantiles("oz_worker_task_duration_seconds"),
            unit="s",
        ),
        Panel(
            title="From start to end, by result (median)",
            about="From the worker's first sight of the running agent.",
            targets=(Target(quantile(0.5, "oz_worker_task_start_to_end_seconds", "result"), "{{result}}"),),
            unit="s",
            colors=_RESULTS,
        ),
        Panel(
            title="From queue to start",
            about="From the run's creation, by the control plane's clock, to the sight of its running agent.",
            targets=_quantiles("oz_worker_task_queue_to_start_seconds"),
            unit="s",
        ),
    ),
)

LINK: Final = Row(
    "Control plane",
    (
        Panel(
            title="Reconnections",
            about="Per minute. dial_failed: the attempt before failed or was refused; remote_close: the"
            " connection ended.",
            targets=(
                Target(
                    f"60 * {per_second('oz_worker_websocket_reconnects_total', 'reason')}",
                    "{{reason}}",
                ),
            ),
            width=12,
            height=6,
            stacked=True,
            colors=(("dial_failed", RED), ("remote_close", ORANGE)),
        ),
        Panel(
            title="Outbox",
            about="Results that are not delivered to the control plane yet.",
            targets=(Target(summed("oz_worker_outbox_reports", "worker_id"), "{{worker_id}}"),),
            width=6,
            height=6,
        ),
        Panel(
            title="Oldest result in the outbox",
            about="How long it has waited for its delivery.",
            targets=(
                Target(f"max by (worker_id) ({chosen('oz_worker_outbox_oldest_seconds')})", "{{worker_id}}"),
            ),
            width=6,
            height=6,
            unit="s",
        ),
    ),
)

KUBERNETES: Final = Row(
    "Kubernetes API",
    (
        Panel(
            title="Requests",
            about="Requests per second, retries included.",
            targets=(Target(per_second(_REQUESTS, "verb", "resource"), "{{verb}} {{resource}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Unsuccessful responses, by code",
            about="Requests per second. none: there was no response.",
            targets=(Target(f"{per_second(_NO_SUCCESS, 'code')} > 0", "{{code}}"),),
            unit="reqps",
            stacked=True,
            bars=True,
        ),
        Panel(
            title="Response time, by verb (p99)",
            about="Until the response's headers, without watches and logs.",
            targets=(Target(quantile(0.99, _ANSWERED, "verb"), "{{verb}}"),),
            unit="s",
        ),
    ),
)

WATCHES: Final = Row(
    "Watches and process",
    (
        Panel(
            title="Watch lag",
            about="Time since the watch last received anything; normally a minute at most.",
            targets=(
                Target(
                    f"max by (worker_id, resource) ({chosen('oz_worker_kubernetes_watch_lag_seconds')})",
                    "{{worker_id}}: {{resource}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Watch restarts",
            about="Per minute. ended: the server ended the watch at its time-out; error: it was interrupted;"
            " relist: its resource version was too old.",
            targets=(
                Target(
                    f"60 * {per_second('oz_worker_kubernetes_watch_restarts_total', 'resource', 'reason')}",
                    "{{resource}}: {{reason}}",
                ),
            ),
        ),
        Panel(
            title="Event-loop lag",
            about="How late the worker's timers fire.",
            targets=_quantiles("oz_worker_event_loop_lag_seconds"),
            unit="s",
        ),
    ),
)

ROWS: Final = (STATE, TASKS, FAILURES, DURATIONS, LINK, KUBERNETES, WATCHES)
