"""Builds the frame that assigns a stored run."""

from typing import Final

import msgspec

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.times import format_time
from oz_agent_worker.protocol.frames import SentConfigSnapshot, SentTask, TaskAssignment, TaskDefinition

__all__ = ["AGENT_KEY_VARIABLE", "task_assignment"]

#: Environment variable in which the agent finds its workload token.
AGENT_KEY_VARIABLE: Final = "WARP_API_KEY"

_snapshot_decoder = msgspec.json.Decoder(SentConfigSnapshot)


def task_assignment(run: Run, token: Secret, settings: ControlPlaneSettings) -> TaskAssignment:
    """Build the assignment of a run's execution; ``token`` is the workload token of its agent."""
    # The stored configuration has every member of the snapshot, and further ones for the control
    # plane and for the agent, which reads its run.
    snapshot = _snapshot_decoder.decode(run.config) if run.config else None
    # ``owner`` is left out: its public ``Id`` is an integer, and the IDs here are not. The public
    # worker ignores a frame with a string there.
    return TaskAssignment(
        task_id=run.id,
        execution_id=run.execution_id,
        task=SentTask(
            id=run.id,
            title=run.title,
            task_definition=TaskDefinition(prompt=run.prompt),
            created_at=format_time(run.created_at),
            updated_at=format_time(run.updated_at),
            agent_config_snapshot=snapshot,
            agent_conversation_id=run.conversation_id,
        ),
        docker_image=settings.default_docker_image,
        sidecar_image=settings.default_sidecar_image,
        env_vars={AGENT_KEY_VARIABLE: token},
    )
