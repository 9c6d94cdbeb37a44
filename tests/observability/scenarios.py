"""What happens to a worker, as Prometheus sees it, and which alerts that makes fire.

Values are in promtool's notation, one a minute: ``0+2x30`` counts up by two for half an hour,
``1x30`` stays (prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["SCENARIOS", "Scenario"]

_TARGET: Final = 'job="oz", instance="a"'
_NEXT_TARGET: Final = 'job="oz", instance="b"'
#: One, for a minute of six: scrapes of a worker that its kubelet starts again every five minutes.
_RESTARTS: Final = " ".join(["1 stale _x4"] * 10)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is seen until ``at``; ``fires`` are then exactly the alerts that do, each with its worker.

    ``spares`` is the alert that would fire if things were a little worse.
    """

    name: str
    series: Mapping[str, str]
    at: str
    fires: frozenset[tuple[str, str]] = frozenset()
    spares: str | None = None


def _series(name: str, labels: str = "", *, target: str = _TARGET) -> str:
    return f"{name}{{{', '.join(filter(None, (target, labels)))}}}"


def _info(values: str = "1x200", *, version: str = "1", target: str = _TARGET) -> dict[str, str]:
    labels = f'worker_id="w", backend="kubernetes", version="{version}"'
    return {_series("oz_worker_info", labels, target=target): values}


def _worker(**changes: str) -> dict[str, str]:
    """A worker that is well; ``changes`` are other values of its series, by short names."""
    values = {
        "connected": "1x200",
        "active": "2x200",
        "limit": "4x200",
        "oldest": "0x200",
        "jobs_lag": "20x200",
        "pods_lag": "20x200",
    }
    values |= changes
    names = {
        "connected": _series("oz_worker_connected"),
        "active": _series("oz_worker_tasks_active"),
        "limit": _series("oz_worker_tasks_max_concurrent"),
        "oldest": _series("oz_worker_outbox_oldest_seconds"),
        "jobs_lag": _series("oz_worker_kubernetes_watch_lag_seconds", 'resource="jobs"'),
        "pods_lag": _series("oz_worker_kubernetes_watch_lag_seconds", 'resource="pods"'),
    }
    return _info() | {names[short]: of for short, of in values.items()}


def _rejected(reason: str, values: str) -> dict[str, str]:
    return {_series("oz_worker_tasks_rejected_total", f'reason="{reason}"'): values}


def _reconnects(reason: str, values: str) -> dict[str, str]:
    return {_series("oz_worker_websocket_reconnects_total", f'reason="{reason}"'): values}


def _failures(reason: str, values: str, phase: str = "backend") -> dict[str, str]:
    return {_series("oz_worker_task_failures_total", f'phase="{phase}", reason="{reason}"'): values}


def _completed(succeeded: str, failed: str) -> dict[str, str]:
    name = "oz_worker_tasks_completed_total"
    return {_series(name, 'result="succeeded"'): succeeded, _series(name, 'result="failed"'): failed}


def _requests(code: str, values: str) -> dict[str, str]:
    labels = f'verb="list", resource="jobs", code="{code}"'
    return {_series("oz_worker_kubernetes_requests_total", labels): values}


def _lag(late: str) -> dict[str, str]:
    """Sixty timers a minute, of which ``late`` is how many are late by more than a second."""
    name = "oz_worker_event_loop_lag_seconds_bucket"
    return {
        _series(name, 'le="1"'): f"0+{60 - int(late)}x200",
        _series(name, 'le="2.5"'): "0+60x200",
        _series(name, 'le="+Inf"'): "0+60x200",
    }


def _fires(alert: str, worker: str = "w") -> frozenset[tuple[str, str]]:
    return frozenset({(alert, worker)})


SCENARIOS: Final = (
    Scenario("all is well", _worker(), "3h"),
    # Connection.
    Scenario("no worker reports", {}, "11m", _fires("OzWorkerAbsent", "")),
    Scenario("a worker is replaced", _info("1x20 _x8 1x60"), "28m", spares="OzWorkerAbsent"),
    Scenario("a worker is gone", _info("1x20 stale"), "35m", _fires("OzWorkerAbsent", "")),
    Scenario(
        "the control plane is away",
        _worker(connected="1x10 0x60", oldest="0x10 0+60x60") | _reconnects("dial_failed", "0x10 0+2x60"),
        "50m",
        _fires("OzWorkerDisconnected"),
    ),
    Scenario(
        "a worker restarts over and over",
        _info(_RESTARTS) | {_series("oz_worker_connected"): _RESTARTS.replace("1", "0")},
        "40m",
        _fires("OzWorkerDisconnected"),
    ),
    Scenario(
        "a worker restarts over and over, and heals",
        _info(f"{_RESTARTS} 1x30") | {_series("oz_worker_connected"): f"{_RESTARTS.replace('1', '0')} 1x30"},
        "62m",
        spares="OzWorkerDisconnected",
    ),
    Scenario(
        "a Pod that never connected is replaced by one that does",
        _info("1x5 stale")
        | {_series("oz_worker_connected"): "0x5 stale"}
        | _info("_x5 1x60", target=_NEXT_TARGET)
        | {_series("oz_worker_connected", target=_NEXT_TARGET): "_x5 1x60"},
        "11m",
        spares="OzWorkerDisconnected",
    ),
    Scenario(
        "a worker that does not connect is upgraded where it stands, to no avail",
        _info("1x10 stale") | _info("_x11 1x60", version="2") | {_series("oz_worker_connected"): "0x60"},
        "18m",
        _fires("OzWorkerDisconnected"),
    ),
    Scenario(
        "the control plane is replaced",
        _worker(connected="1x10 0x9 1x60") | _reconnects("dial_failed", "0x10 0+3x9 27x60"),
        "20m",
        spares="OzWorkerDisconnected",
    ),
    Scenario(
        "two processes have one worker's ID",
        _worker() | _reconnects("remote_close", "0+5x60"),
        "30m",
        _fires("OzWorkerReconnecting"),
    ),
    Scenario(
        "a proxy cuts connections every five minutes",
        _worker() | _reconnects("remote_close", "0 0 0 0 0 1x4 2x4 3x4 4x4 5x4 6x4 7x4 8x4 9x4 10x4"),
        "50m",
        spares="OzWorkerReconnecting",
    ),
    Scenario(
        "connections are cut for five minutes",
        _worker() | _reconnects("remote_close", "0x5 0+10x5 50x60"),
        "21m",
        spares="OzWorkerReconnecting",
    ),
    Scenario("a result is not accepted", _worker(oldest="0+60x60"), "40m", _fires("OzWorkerReportsStuck")),
    Scenario(
        "results wait for a while", _worker(oldest="0+60x18 0x60"), "19m", spares="OzWorkerReportsStuck"
    ),
    # Capacity.
    Scenario(
        "more is offered than there are slots",
        _worker() | _rejected("at_capacity", "0+1x60"),
        "40m",
        _fires("OzWorkerRejectingTasks"),
    ),
    Scenario(
        "a burst of tasks is too much",
        _worker() | _rejected("at_capacity", "0x5 0+20x8 160x60"),
        "40m",
        spares="OzWorkerRejectingTasks",
    ),
    Scenario(
        "a worker drains",
        _worker() | _rejected("shutting_down", "0+3x60"),
        "50m",
        spares="OzWorkerRejectingTasks",
    ),
    Scenario(
        "all slots are taken for hours", _worker(active="4x200"), "130m", _fires("OzWorkerSlotsExhausted")
    ),
    Scenario(
        "a slot is free now and then", _worker(active="4x100 3x1 4x98"), "3h", spares="OzWorkerSlotsExhausted"
    ),
    Scenario(
        "many tasks without a limit",
        _worker(active="500x200", limit="0x200"),
        "3h",
        spares="OzWorkerSlotsExhausted",
    ),
    # Tasks.
    Scenario(
        "the API server takes no Jobs",
        _worker() | _rejected("backend_unavailable", "0+1x60"),
        "30m",
        _fires("OzWorkerBackendUnavailable"),
    ),
    Scenario(
        "the API server is replaced",
        _worker() | _rejected("backend_unavailable", "0x5 0+5x4 20x60"),
        "20m",
        spares="OzWorkerBackendUnavailable",
    ),
    Scenario(
        "nodes die",
        _worker() | _failures("node_lost", "0+1x100") | _completed("0+1x100", "0+1x100"),
        "75m",
        _fires("OzWorkerInfrastructureFailures"),
    ),
    Scenario(
        "agents fail",
        _worker()
        | _failures("container_exit", "0+4x100")
        | _failures("container_oom", "0+2x100")
        | _completed("0x100", "0+6x100"),
        "90m",
        spares="OzWorkerInfrastructureFailures",
    ),
    Scenario(
        "a node dies",
        _worker() | _failures("node_lost", "0x10 0+5x2 10x100") | _completed("0+1x100", "0x10 0+5x2 10x100"),
        "51m",
        spares="OzWorkerInfrastructureFailures",
    ),
    Scenario(
        "the only task of an hour fails",
        _worker() | _failures("node_lost", "0x10 1x100") | _completed("0x100", "0x10 1x100"),
        "40m",
        spares="OzWorkerInfrastructureFailures",
    ),
    Scenario(
        "a registry is away",
        _worker() | _failures("image_pull", "0+1x60"),
        "30m",
        _fires("OzWorkerImagePullFailing"),
    ),
    Scenario(
        "a registry is away for some minutes",
        _worker() | _failures("image_pull", "0x5 0+3x5 15x60"),
        "20m",
        spares="OzWorkerImagePullFailing",
    ),
    Scenario(
        "the cluster is full",
        _worker() | _failures("unschedulable", "0+1x60"),
        "30m",
        _fires("OzWorkerUnschedulable"),
    ),
    Scenario(
        "an autoscaler is late",
        _worker() | _failures("unschedulable", "0x5 0+3x5 15x60"),
        "20m",
        spares="OzWorkerUnschedulable",
    ),
    Scenario(
        "Jobs cannot be deleted",
        _worker() | _failures("cleanup", "0+1x120", phase="cleanup") | _completed("0+1x120", "0x120"),
        "100m",
        _fires("OzWorkerCleanupFailing"),
    ),
    Scenario(
        "some Jobs could not be deleted",
        _worker()
        | _failures("cleanup", "0x5 0+2x5 10x120", phase="cleanup")
        | _completed("0+1x120", "0x120"),
        "65m",
        spares="OzWorkerCleanupFailing",
    ),
    # Kubernetes.
    Scenario(
        "a watch hears nothing",
        _worker(pods_lag="0+60x60"),
        "30m",
        _fires("OzWorkerWatchStalled"),
    ),
    Scenario(
        "a watch hears nothing for ten minutes",
        _worker(pods_lag="0+60x12 0x60"),
        "13m",
        spares="OzWorkerWatchStalled",
    ),
    Scenario(
        "the API server is overloaded",
        _worker() | _requests("200", "0+10x60") | _requests("429", "0+1x60") | _requests("none", "0+1x60"),
        "45m",
        _fires("OzWorkerAPIErrors"),
    ),
    Scenario(
        "conflicts and refusals",
        _worker() | _requests("200", "0+10x60") | _requests("409", "0+5x60") | _requests("403", "0+5x60"),
        "45m",
        spares="OzWorkerAPIErrors",
    ),
    Scenario(
        "an idle worker misses an answer",
        _worker() | _requests("none", "0x5 1x60"),
        "15m",
        spares="OzWorkerAPIErrors",
    ),
    # The process.
    Scenario("the process starves", _worker() | _lag("2"), "30m", _fires("OzWorkerEventLoopLagging")),
    Scenario("a timer is late", _worker() | _lag("0"), "30m", spares="OzWorkerEventLoopLagging"),
)
