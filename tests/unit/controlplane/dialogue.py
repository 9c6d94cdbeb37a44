"""What a worker and a control plane say to each other about a run, for tests."""

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.protocol.frames import ExecutionKey, TaskCancellation, TaskClaimed, TaskCompleted

from .plane import Plane, assigned

__all__ = ["GRACE", "cancelled", "claim", "claimed_by", "done", "sent", "state", "stop"]

GRACE = 600


async def sent(plane: Plane, connection: WorkerConnection, **more: object) -> ExecutionKey:
    """Queue a run, and let a connection be sent it."""
    run_id = await plane.queue(**more)  # type: ignore[arg-type]
    await plane.step()
    assert assigned(connection) == [run_id]
    return ExecutionKey(task_id=run_id, execution_id=(await plane.run(run_id)).execution_id)


def claim(e: ExecutionKey) -> TaskClaimed:
    return TaskClaimed(task_id=e.task_id, worker_id="w", execution_id=e.execution_id)


def done(e: ExecutionKey, ack_id: str = "a") -> TaskCompleted:
    return TaskCompleted(task_id=e.task_id, message="", execution_id=e.execution_id, ack_id=ack_id)


def cancelled(e: ExecutionKey) -> TaskCompleted:
    return TaskCompleted(task_id=e.task_id, message="", task_state="CANCELLED")


def stop(e: ExecutionKey) -> TaskCancellation:
    return TaskCancellation(task_id=e.task_id, execution_id=e.execution_id)


async def state(plane: Plane, e: ExecutionKey) -> RunState:
    return (await plane.run(e.task_id)).state


async def claimed_by(plane: Plane, peer: Peer, **more: object) -> tuple[WorkerConnection, ExecutionKey]:
    connection = await plane.connect(peer) if peer.sent_hello else plane.worker(peer.worker_id)
    execution = await sent(plane, connection, **more)
    await plane.say(connection, claim(execution))
    return connection, execution
