"""Executions and Pods for the tests of the Kubernetes backend's pure parts."""

import dataclasses
from typing import Any

import msgspec

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import InstanceShape, Sidecar
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.task_spec import TaskSpec

AGENT = Sidecar("registry.example/agent:1", "/agent")

_SPEC = TaskSpec(
    key=ExecutionKey("7b3a1c2e-run", "e0f1a2b3c4d5"),
    title="Fix the build",
    arguments=("agent", "run", "--task-id", "7b3a1c2e-run", "--sandboxed", "--idle-on-complete"),
    environment={
        "TASK_ID": Secret("7b3a1c2e-run"),
        "GIT_TERMINAL_PROMPT": Secret("0"),
        "GITHUB_TOKEN": Secret("ghp_secret"),
    },
    image="ubuntu:22.04",
    sidecars=(),
    shape=InstanceShape(),
    harness=None,
)


def task_spec(**changes: Any) -> TaskSpec:
    """An execution, with some of its fields changed."""
    return dataclasses.replace(_SPEC, **changes)


def pod(**status: Any) -> PodView:
    """A Pod with this status; ``spec`` and ``metadata`` may be given too."""
    spec = status.pop("spec", {"nodeName": "node-1"})
    metadata = {
        "name": "oz-task-1-abcde",
        "namespace": "agents",
        "uid": "uid-1",
        **status.pop("metadata", {}),
    }
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, PodView)


def job(*conditions: dict[str, Any], retries: int = 0) -> JobView:
    """A Job with these conditions, whose Pod may be started again so often."""
    document = {
        "metadata": {"name": "oz-task-1", "uid": "job-1"},
        "spec": {"backoffLimit": retries},
        "status": {"conditions": conditions},
    }
    return msgspec.convert(document, JobView)


def job_view(manifest: dict[str, Any]) -> JobView:
    """A Job of the API as the watch reports it."""
    return msgspec.convert(manifest, JobView)


def failed_job(
    reason: str = "BackoffLimitExceeded", message: str = "Job has reached its limit", *, retries: int = 0
) -> JobView:
    """A Job whose condition ``Failed`` holds."""
    return job({"type": "Failed", "status": "True", "reason": reason, "message": message}, retries=retries)


def terminated(name: str, exit_code: int, **more: Any) -> dict[str, Any]:
    """The status of a container that ended."""
    reason = "Completed" if exit_code == 0 else "Error"
    return {"name": name, "state": {"terminated": {"exitCode": exit_code, "reason": reason, **more}}}


def waiting(name: str, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of a container that waits."""
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}, **more}


def running(name: str) -> dict[str, Any]:
    """The status of a container that runs."""
    return {"name": name, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}


def event(reason: str, message: str = "", *, at: int = 0, kind: str = "Warning", **more: Any) -> EventView:
    """An event that was last seen ``at`` seconds after noon."""
    time = f"2026-01-01T12:{at // 60:02}:{at % 60:02}Z"
    return msgspec.convert(
        {"reason": reason, "message": message, "type": kind, "lastTimestamp": time, **more}, EventView
    )
