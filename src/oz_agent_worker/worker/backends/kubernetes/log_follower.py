"""Copies a task's output to its sink: as it is written, and the rest of it at the end.

A container's log is followed from the time at which the watch shows that it runs, and after a broken
stream from where it ended. When the container has ended, what is missing is read in any case: the API
server also ends a stream regularly when it loses the kubelet. Requests for logs never change an
outcome, and there are none if the output is not wanted.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from oz_agent_worker.worker import log_fields
from oz_agent_worker.worker.backends.base import OutputSink

from .api.client import KubernetesClient
from .api.errors import ApiError, ForbiddenError, NotFoundError
from .api.retry import RetryPolicy, delays
from .logs.log_lines import BEGINNING, LogPosition, LogReader
from .logs.task_log import LogSource, log_sources, write_log, write_note, write_output
from .objects import PodView

__all__ = ["LogFollower", "LogFollowers", "LogSettings"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How logs are followed.

    ``most_followed``: how many logs at a time; the rest reach their sinks when their tasks end.
    ``pauses``: how long to wait before a stream that ended is opened again.
    """

    most_followed: int = 100
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first=0.2, longest=10.0))


class LogFollowers:
    """The asyncio tasks that follow logs, those of all executions."""

    def __init__(self, settings: LogSettings | None = None) -> None:
        self.settings = settings or LogSettings()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None] | None:
        """Start to follow; return ``None`` where as many as allowed are followed already."""
        if len(self._tasks) >= self.settings.most_followed:
            return None
        task = asyncio.create_task(work(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Stop following."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        # Their errors are logged by ``_on_done``.
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True, eq=False)
class LogFollower:
    """Copies the output of one execution to its sink: each byte once, in order."""

    client: KubernetesClient
    namespace: str
    followers: LogFollowers
    sink: OutputSink
    _pods: tuple[PodView, ...] = ()
    _positions: dict[tuple[str, str], LogPosition] = field(default_factory=dict)
    _copied: set[tuple[str, str]] = field(default_factory=set)
    _task: asyncio.Task[None] | None = None
    _finished: bool = False

    def update(self, pods: tuple[PodView, ...]) -> None:
        """Take the current Pods, and start to follow a log that has begun where none is followed."""
        self._pods = pods
        is_following = self._task is not None and not self._task.done()
        source = self._next_source()
        if source is not None and not is_following and not self._finished:
            self._task = self.followers.start(self._follow, f"log of {source.pod}")

    async def finish(self, pods: tuple[PodView, ...]) -> None:
        """Stop following, and write what is missing of all logs.

        Call it again where it was cancelled; nothing is written twice.
        """
        self._finished = True
        if self._task is not None:
            self._task.cancel()
        self._pods = pods
        while (source := self._next_source()) is not None:
            await self._complete(source)

    def _next_source(self) -> LogSource | None:
        """The first log that has begun and is not copied to its end."""
        return next((s for s in log_sources(self._pods) if s.key not in self._copied), None)

    async def _follow(self) -> None:
        """Copy log by log until no other one has begun or the last has ended."""
        # The watch starts this task, and the watch is no execution's.
        log_fields.about(next((pod.metadata.key for pod in self._pods), None))
        policy = self.followers.settings.pauses
        pauses = delays(policy)
        while (source := self._next_source()) is not None:
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
        reader = LogReader(self._positions[source.key])
        async with self.client.follow_log(
            self.namespace, source.pod, source.container, since=reader.position.since
        ) as chunks:
            async for chunk in chunks:
                output = reader.feed(chunk)
                self._positions[source.key] = reader.position
                write_output(self.sink, output)

    async def _complete(self, source: LogSource) -> None:
        """Write what is missing of a log, and mark it as copied."""
        position = self._positions.get(source.key, BEGINNING)
        try:
            log = await self.client.read_log(self.namespace, source.pod, source.container, after=position)
        except ApiError as error:
            # A Pod that is gone after its log was followed has most likely written no more.
            if not isinstance(error, NotFoundError) or position == BEGINNING:
                extent = "" if position == BEGINNING else " to its end"
                write_note(self.sink, f"the log could not be read{extent}: {error}")
        else:
            self._introduce(source)
            write_log(self.sink, log)
        self._copied.add(source.key)

    def _introduce(self, source: LogSource) -> None:
        """Write a note where the output of another Pod of the same task begins."""
        known = {uid for uid, _ in (*self._positions, *self._copied)}
        if known and source.uid not in known:
            write_note(self.sink, f"the task was started again, as Pod {source.pod}")
        self._positions.setdefault(source.key, BEGINNING)
