"""The fields of a log line that say which task it is about.

A line is about the execution whose key is among its arguments or, without one, about the
execution that the running asyncio task works for (``about``).
"""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from oz_agent_worker.protocol.report import ExecutionKey

from .events import EventKind, TaskEvent, WorkerEvent

__all__ = ["LogFields", "about"]

_current: Final[ContextVar[ExecutionKey | None]] = ContextVar("execution", default=None)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def about(key: ExecutionKey | None) -> None:
    """Set the execution that the running asyncio task, and tasks that it starts, work for."""
    _current.set(key)


class LogFields:
    """Listens to events for the Job and trace of each execution, and gives a log record its fields."""

    def __init__(self) -> None:
        self._known: dict[ExecutionKey, dict[str, str]] = {}

    def __call__(self, event: WorkerEvent) -> None:
        """Learn from an event."""
        if isinstance(event, TaskEvent):
            if (name := event.kind.value.log_field) is not None:
                self._known.setdefault(event.key, {})[name] = event.detail
            elif event.kind is EventKind.RELEASED:
                self._known.pop(event.key, None)

    def of(self, record: logging.LogRecord) -> Mapping[str, str]:
        """Return ``task`` and ``execution``, and ``job`` and ``trace_id`` where known; else nothing."""
        key = _key_among(record.args) or _current.get()
        if key is None:
            return _NONE
        return {"task": key.task_id, "execution": key.execution_id, **self._known.get(key, _NONE)}


def _key_among(arguments: object) -> ExecutionKey | None:
    if not isinstance(arguments, tuple):
        return None
    return next((argument for argument in arguments if isinstance(argument, ExecutionKey)), None)
