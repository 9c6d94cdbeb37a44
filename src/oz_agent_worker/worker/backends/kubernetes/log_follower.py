"""A task's output on its way to its sink: as it is written, and the rest of it at the end.

A container's log is followed from when the watch says that it runs; after a broken stream
from where it left off. However that went, what is missing is read when the container has
ended: a stream that ends well says nothing of whether it was whole, because the API server
ends it well too when it loses the kubelet. Requests for logs never change an outcome, and
there are none where nobody wants the output.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.worker import log_fields
from oz_agent_worker.worker.backends.base import OutputSink

from .api.client import KubernetesClient
from .api.errors import ApiError, ForbiddenError, NotFoundError
from .api.retry import RetryPolicy, delays
from .logs.log_lines import BEGINNING, LogPosition, LogReader
from .logs.task_log import LogSource, log_sources, write_log, write_note, write_output
from .objects import PodView

__all__ = ["Follows", "LogSettings", "TaskLog"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """``most_followed``: logs followed at a time; the rest reach their sinks when their tasks end.

    ``pauses``: how long to wait before a stream that ended is taken up again.
    """

    most_followed: int = 100
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first=0.2, longest=10.0))


class Follows:
    """The logs that are followed, of all executions together, each by a task of its own."""

    def __init__(self, settings: LogSettings | None = None) -> None:
        self.settings = settings or LogSettings()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None] | None:
        """Start to follow, where there is a place; ``None`` where there is none."""
        if len(self._tasks) >= self.settings.most_followed:
            return None
        task = asyncio.create_task(work(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Follow nothing any more."""
        await cancel_and_wait(*self._tasks)


class TaskLog:
    """Copies the output of one execution to its sink: each byte once, in order."""

    __slots__ = (
        "_client",
        "_done",
        "_follows",
        "_namespace",
        "_over",
        "_pods",
        "_positions",
        "_sink",
        "_task",
    )

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        follows: Follows,
        sink: OutputSink,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._follows = follows
        self._pods: tuple[PodView, ...] = ()
        self._sink = sink
        self._positions: dict[tuple[str, str], LogPosition] = {}
        self._done: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def look(self, pods: tuple[PodView, ...]) -> None:
        """The execution's Pods are so: follow them, where they have something to say and are not followed."""
        self._pods = pods
        followed = self._task is not None and not self._task.done()
        source = self._current()
        if source is not None and not followed and not self._over:
            self._task = self._follows.start(self._follow, f"log of {source.pod}")

    async def finish(self, pods: tuple[PodView, ...]) -> None:
        """Follow no more, and write what is missing: no container says any more that is of interest.

        To be called again where it was cancelled; nothing is written twice.
        """
        self._over = True
        if self._task is not None:
            self._task.cancel()
        self._pods = pods
        while (source := self._current()) is not None:
            await self._complete(source)

    def _current(self) -> LogSource | None:
        """The first log that has begun and is not copied to its end."""
        return next((s for s in log_sources(self._pods) if s.key not in self._done), None)

    async def _follow(self) -> None:
        """Copy what has begun, log by log, until nothing more has begun or the last has ended."""
        # It is the watch that starts this, and the watch works for all executions.
        log_fields.about(next((pod.metadata.key for pod in self._pods), None))
        policy = self._follows.settings.pauses
        pauses = delays(policy)
        while (source := self._current()) is not None:
            if source.ended:
                await self._complete(source)
                continue
            before, pause = self._positions.get(source.key), next(pauses)
            try:
                await self._stream(source)
            except ForbiddenError:
                # An API server that starts refuses for a moment what it allows later.
                pause = policy.longest
            except ApiError as error:
                _logger.debug("The log of Pod %s will be followed again: %s", source.pod, error)
            if self._positions.get(source.key) != before:
                pauses = delays(policy)
            await asyncio.sleep(pause)

    async def _stream(self, source: LogSource) -> None:
        """Copy a log as it is written, until the stream ends."""
        self._introduce(source)
        position = self._positions[source.key]
        reader = LogReader(position)
        async with self._client.follow_log(
            self._namespace, source.pod, source.container, since=position.since
        ) as chunks:
            async for chunk in chunks:
                output = reader.feed(chunk)
                self._positions[source.key] = reader.position
                write_output(self._sink, output)

    async def _complete(self, source: LogSource) -> None:
        """Write what is missing of a log, and be done with it."""
        position = self._positions.get(source.key, BEGINNING)
        try:
            log = await self._client.read_log(self._namespace, source.pod, source.container, after=position)
        except ApiError as error:
            # A Pod that is gone after its log was followed has most likely said all.
            if not isinstance(error, NotFoundError) or position == BEGINNING:
                extent = "" if position == BEGINNING else " to its end"
                write_note(self._sink, f"the log could not be read{extent}: {error}")
        else:
            self._introduce(source)
            write_log(self._sink, log)
        self._done.add(source.key)

    def _introduce(self, source: LogSource) -> None:
        """Say where the output of another Pod of the same task begins."""
        known = {uid for uid, _ in (*self._positions, *self._done)}
        if known and source.uid not in known:
            write_note(self._sink, f"the task was started again, as Pod {source.pod}")
        self._positions.setdefault(source.key, BEGINNING)
