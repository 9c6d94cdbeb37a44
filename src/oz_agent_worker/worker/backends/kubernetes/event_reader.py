"""Reads the events of objects with a problem: rarely, one at a time, and of no other object."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from oz_agent_worker.common.aio import cancel_and_wait

from .api.errors import ApiError, ForbiddenError
from .objects import EventView
from .status.events import NOT_READ, EventFacts, ScaleUp, event_facts, unreadable, with_scale_up

__all__ = ["EventReader", "EventSettings"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Times in seconds: between two reads for one execution, and between any two.

    ``scale_up`` is for how long the word of an autoscaler that a node is coming holds for other
    Pods, which may fit that node; ``forbidden`` when a permission that was missing is tried again.
    """

    every: float = 10.0
    spacing: float = 0.2
    scale_up: float = 600.0
    forbidden: float = 600.0


@dataclass(slots=True)
class _Asked:
    """What an execution asked about last, and when it may do so again."""

    about: str
    facts: EventFacts = NOT_READ
    again_at: float = 0.0


class EventReader:
    """What events tell, for the executions that have a problem.

    Executions are named by a key of theirs. Whatever their number, requests follow one
    another with ``settings.spacing`` between them. ``read`` asks the API server for the
    events about the object with a UID, and raises ``ApiError``. ``clock`` gives seconds, and
    never runs backwards.
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
        self._asked: dict[str, _Asked] = {}
        self._waiting: dict[str, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._forbidden_until: float | None = None
        self._scale_up_words = ""
        self._scale_up_until = 0.0

    def facts(self, key: str) -> EventFacts:
        """What the events say of the object that the execution ``key`` asked about last."""
        asked = self._asked.get(key)
        if asked is None:
            return NOT_READ
        if asked.facts is not NOT_READ and self._clock() < self._scale_up_until:
            return with_scale_up(asked.facts, self._scale_up_words)
        return asked.facts

    def ask(self, key: str, about: str, tell: Callable[[], None]) -> float | None:
        """Have the events about the object with the UID ``about`` read; ``tell`` is called once they are.

        Returns ``None`` where that is under way, and else in how many seconds it is worth
        asking again.
        """
        if key in self._waiting:
            return None
        now = self._clock()
        asked = self._asked.get(key)
        if asked is None or asked.about != about:
            asked = self._asked[key] = _Asked(about)
        if self._forbidden_until is not None and now < self._forbidden_until:
            asked.facts, asked.again_at = unreadable(about), self._forbidden_until
        if now < asked.again_at:
            return asked.again_at - now
        self._waiting[key] = tell
        if self._task is None or self._task.done():
            # It reads for all executions, so it is of no one's context.
            self._task = asyncio.create_task(
                self._read_all(), name="events of objects with a problem", context=contextvars.Context()
            )
        return None

    def forget(self, key: str) -> None:
        """Drop what is known for an execution: its problem is over."""
        self._asked.pop(key, None)
        self._waiting.pop(key, None)

    async def close(self) -> None:
        """Read no more."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    async def _read_all(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            asked = self._asked[key]
            await self._read(asked)
            tell = self._waiting.pop(key, None)
            if tell is not None:
                tell()
            await asyncio.sleep(self._settings.spacing)
        self._task = None

    async def _read(self, asked: _Asked) -> None:
        began = self._clock()
        asked.again_at = began + self._settings.every
        try:
            events = await self._events_about(asked.about)
        except ForbiddenError as error:
            self._forbid(error)
            asked.facts = unreadable(asked.about)
        except ApiError as error:
            # What was known stays; the one who asked decides for how long that will do.
            _logger.debug("the events about %s cannot be read: %s", asked.about, error)
        else:
            self._forbidden_until = None
            asked.facts = event_facts(asked.about, events, began)
            self._note_scale_up(asked.facts)

    def _forbid(self, error: ForbiddenError) -> None:
        if self._forbidden_until is None:
            _logger.warning(
                "the worker may not list events, which tell why a Pod does not start (a volume, a quota,"
                " an autoscaler): %s",
                error.message,
            )
        self._forbidden_until = self._clock() + self._settings.forbidden

    def _note_scale_up(self, facts: EventFacts) -> None:
        if facts.scale_up is ScaleUp.COMING:
            self._scale_up_words = facts.autoscaler
            self._scale_up_until = facts.read_at + self._settings.scale_up
