"""Reads the events about objects with a problem: rarely, one request at a time, and about no others."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from oz_agent_worker.common.aio import cancel_and_wait

from .api.errors import ApiError, ForbiddenError
from .event_objects import EventView
from .status.events import NOT_READ, EventFacts, ScaleUp, event_facts, unreadable, with_scale_up

__all__ = ["EventReader", "EventSettings"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Times in seconds.

    ``every`` is between two reads for one execution, ``spacing`` between any two reads. When an
    autoscaler has announced a node, that counts for ``scale_up`` for other Pods as well, which
    may fit that node. A permission that is missing is tried again after ``forbidden``.
    """

    every: float = 10.0
    spacing: float = 0.2
    scale_up: float = 600.0
    forbidden: float = 600.0


@dataclass(slots=True)
class _Query:
    """The last object of an execution's queries, and when it may be queried again."""

    about: str
    facts: EventFacts = NOT_READ
    again_at: float = 0.0


class EventReader:
    """What events say, for the executions that have a problem.

    An execution is named by a key of its own. ``read`` reads the events about the object with
    a UID and raises ``ApiError``. ``clock`` gives seconds and never runs backwards.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[Sequence[EventView]]],
        *,
        clock: Callable[[], float],
        settings: EventSettings | None = None,
    ) -> None:
        self._events_about = read
        self._clock = clock
        self._settings = settings or EventSettings()
        self._queries: dict[str, _Query] = {}
        self._waiting: dict[str, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._forbidden_until: float | None = None
        self._scale_up_words = ""
        self._scale_up_until = 0.0

    def facts(self, key: str) -> EventFacts:
        """What the events say about the object that the execution ``key`` asked about last."""
        query = self._queries.get(key)
        if query is None or query.facts is NOT_READ:
            return NOT_READ
        if self._clock() < self._scale_up_until:
            return with_scale_up(query.facts, self._scale_up_words)
        return query.facts

    def ask(self, key: str, about: str, on_read: Callable[[], None]) -> float | None:
        """Have the events about the object with the UID ``about`` read; ``on_read`` is called afterwards.

        Returns ``None`` where the read is under way, else in how many seconds it is worth asking
        again.
        """
        if key in self._waiting:
            return None
        now = self._clock()
        query = self._queries.get(key)
        if query is None or query.about != about:
            query = self._queries[key] = _Query(about)
        if self._forbidden_until is not None and now < self._forbidden_until:
            query.facts, query.again_at = unreadable(about), self._forbidden_until
        if now < query.again_at:
            return query.again_at - now
        self._waiting[key] = on_read
        if self._task is None or self._task.done():
            # It reads for all executions, so its log lines must not name the first one to ask.
            self._task = asyncio.create_task(
                self._read_all(), name="events of objects with a problem", context=contextvars.Context()
            )
        return None

    def forget(self, key: str) -> None:
        """Drop what is known for an execution, whose problem is over."""
        self._queries.pop(key, None)
        self._waiting.pop(key, None)

    async def close(self) -> None:
        """Stop reading."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    async def _read_all(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            await self._read(self._queries[key])
            on_read = self._waiting.pop(key, None)
            if on_read is not None:
                on_read()
            await asyncio.sleep(self._settings.spacing)
        self._task = None

    async def _read(self, query: _Query) -> None:
        began = self._clock()
        query.again_at = began + self._settings.every
        try:
            events = await self._events_about(query.about)
        except ForbiddenError as error:
            if self._forbidden_until is None:
                _logger.warning(
                    "the worker may not list events, which say why a Pod does not start (a volume, a quota,"
                    " an autoscaler): %s",
                    error.message,
                )
            self._forbidden_until = self._clock() + self._settings.forbidden
            query.facts = unreadable(query.about)
        except ApiError as error:
            # What was read before stays. The caller decides whether it is too old.
            _logger.debug("the events about %s cannot be read: %s", query.about, error)
        else:
            self._forbidden_until = None
            query.facts = event_facts(query.about, events, began)
            if query.facts.scale_up is ScaleUp.COMING:
                self._scale_up_words = query.facts.autoscaler
                self._scale_up_until = query.facts.read_at + self._settings.scale_up
