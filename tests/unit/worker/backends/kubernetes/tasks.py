"""A task's Job, Pods and events as the cluster has them, for the tests of explanations of tasks."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.inspection.explain import TaskSnapshot
from oz_agent_worker.worker.backends.kubernetes.inspection.task_jobs import TaskJob
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
CREATED = "2026-01-01T12:00:00Z"
LATER = "2026-01-01T12:05:00Z"
POD_UID = "uid-pod"
JOB_UID = "uid-job"


def task_job(
    *conditions: dict[str, Any],
    task_id: str = "run-1",
    execution_id: str = "exec-1",
    retries: int = 0,
    **more: Any,
) -> TaskJob:
    """A Job of worker ``w1`` with these conditions; ``more`` is metadata."""
    status = {
        "startTime": CREATED,
        "active": 1,
        "conditions": [{"lastTransitionTime": LATER, **c} for c in conditions],
    }
    status.update(more.pop("status", {}))
    metadata = {
        "name": f"oz-task-{task_id}-exec-{execution_id}",
        "namespace": "agents",
        "uid": JOB_UID,
        "creationTimestamp": CREATED,
        "labels": {"oz-worker-id": "w1"},
        "annotations": {"oz.warp.dev/task-id": task_id, "oz.warp.dev/execution-id": execution_id},
        **more,
    }
    return msgspec.convert(
        {"metadata": metadata, "spec": {"backoffLimit": retries}, "status": status}, TaskJob
    )


def task_pod(
    phase: str, *, node: str | None = "node-1", metadata: dict[str, Any] | None = None, **status: Any
) -> PodView:
    """The Pod of the task in this phase."""
    base = {
        "name": "oz-task-run-1-abcde",
        "namespace": "agents",
        "uid": POD_UID,
        "creationTimestamp": CREATED,
    }
    document = {
        "metadata": {**base, **(metadata or {})},
        "spec": {"nodeName": node, **status.pop("spec", {})},
        "status": {"phase": phase, **status},
    }
    return msgspec.convert(document, PodView)


def event(
    reason: str, message: str, *, kind: str = "Warning", about: str = POD_UID, by: str = "kubelet"
) -> EventView:
    """An event about the Pod, or about what ``about`` names."""
    involved = {"kind": "Job" if about == JOB_UID else "Pod", "uid": about}
    document = {
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": by},
        "lastTimestamp": LATER,
    }
    return msgspec.convert(document, EventView)


def facts(job: TaskJob, *pods: PodView, events: tuple[EventView, ...] = (), **policy: Any) -> TaskSnapshot:
    """All of it at ``NOW``."""
    return TaskSnapshot(job=job, pods=pods, events=events, now=NOW, policy=ObservationPolicy(**policy))
