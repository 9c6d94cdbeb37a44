"""The tasks: what the control plane sends, and the Jobs that come of it. Pure."""

from typing import Any, Final

import msgspec

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import parse_assignment
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import TaskSettings, build_task_spec

__all__ = ["assignment", "job_body", "task_ids"]

AGENT_IMAGE: Final = "registry.example/oz-agent:1"
PROMPT: Final = "Find out why the nightly build fails, mend it, and open a pull request. " * 8


def task_ids(prefix: str, count: int) -> list[str]:
    """IDs of ``count`` tasks of one round."""
    return [f"{prefix}-{number:05}" for number in range(count)]


def assignment(task_id: str) -> frames.TaskAssignment:
    """A task such as a control plane sends: an agent image beside the task's own, and a few secrets."""
    return frames.TaskAssignment(
        task_id=task_id,
        execution_id=task_id,
        task=frames.SentTask(
            id=task_id,
            title="Mend the nightly build",
            task_definition=frames.TaskDefinition(prompt=PROMPT),
            created_at="2026-01-31T12:00:00Z",
            updated_at="2026-01-31T12:00:00Z",
            owner=frames.Owner(type="TEAM"),
            agent_config_snapshot=frames.ConfigSnapshot(
                environment_id="env-1", model_id="auto", harness=frames.HarnessConfig(type="oz")
            ),
        ),
        docker_image="ubuntu:24.04",
        sidecar_image=AGENT_IMAGE,
        env_vars={
            "WARP_API_KEY": Secret("k" * 64),
            "GITHUB_ACCESS_TOKEN": Secret("g" * 40),
            "GIT_AUTHOR_NAME": Secret("A Developer"),
        },
        instance_shape=frames.InstanceShape(vcpus=2, memory_gb=4),
    )


def job_body(task_id: str, namespace: str, worker_id: str, server_root_url: str) -> bytes:
    """The Job that the worker makes of that task, as it goes over the wire."""
    settings = TaskSettings(server_root_url=server_root_url)
    spec = build_task_spec(parse_assignment(assignment(task_id)), settings)
    config = KubernetesConfig(namespace=namespace)
    manifest: dict[str, Any] = plan_job(spec, config, worker_id=worker_id, cleanup=True).job
    return msgspec.json.encode(manifest)
