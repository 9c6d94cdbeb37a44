"""A session with its outbox and its book of logs, and what it writes in a form that tests can compare."""

import json
from typing import Any

from oz_agent_worker.protocol.frames import Capability, WorkerHello
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.protocol.outcome import succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Ping, Session, Text

__all__ = ["ALL", "END_A", "END_B", "HELLO", "PUBLIC", "A", "B", "Worker", "shown", "types"]

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b2")
END_A, END_B = TerminalReport(A, succeeded("done")), TerminalReport(B, succeeded("done"))
HELLO = WorkerHello(
    worker_id="w",
    version="1.0",
    backend="direct",
    max_concurrent_tasks=2,
    executions=[ExecutionKey(task_id="a", execution_id="a")],
)
ALL = frozenset(Capability)
PUBLIC: frozenset[Capability] = frozenset()


class Worker:
    """An outbox and a book of logs, with the connection that they leave by."""

    def __init__(self, capabilities: frozenset[Capability] = PUBLIC, now: float = 0.0) -> None:
        self.outbox = Outbox()
        self.logs = LogBuffers()
        self.session = self.connect(capabilities, now)

    def connect(self, capabilities: frozenset[Capability], now: float = 0.0) -> Session:
        self.session = Session(
            self.outbox, self.logs, worker_id="w", capabilities=capabilities, hello=HELLO, now=now
        )
        return self.session

    def frames(self, now: float = 0.0) -> list[Any]:
        """What goes out: frames as their JSON documents, pings as their payload."""
        return [shown(item) for item in self.session.data_to_send(now)]


def shown(item: Text | Ping) -> Any:
    if isinstance(item, Ping):
        return item.payload
    document = json.loads(item.text)
    assert document["type"] == item.kind
    assert document["data"].get("task_id") == (item.key.task_id if item.key else None)
    return document


def types(items: list[Any]) -> list[Any]:
    return [item["type"] if isinstance(item, dict) else "ping" for item in items]
