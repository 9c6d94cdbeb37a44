"""A task's output on its way to its sink: as it is written, and the rest of it at the end.

A container's log is followed from when the watch says that it runs; after a broken stream
from where it left off. However that went, what is missing is read when the container has
ended: a stream that ends well says nothing of whether it was whole, because the API server
ends it well too when it loses the kubelet. Requests for logs never change an outcome, and
there are none where nobody wants the output.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from oz_agent_worker.backends.base import OutputSink

from .api_errors import ApiError, ForbiddenError, NotFoundError
from .client import KubernetesClient
from .joblog import LogSource, log_sources, write_log, write_note, write_output
from .loglines import BEGINNING, LogPosition, LogReader
from .retry import RetryPolicy, delays
from .views import PodView

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

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> asyncio.Task[None] | None:
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
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TaskLog:
    """Copies the output of one execution to its sink: each byte once, in order.

    ``pods`` gives the execution's Pods as last seen.
    """

    __slots__ = ("_client", "_done", "_follows", "_namespace", "_pods", "_positions", "_refused", "_sink", "_task")

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        follows: Follows,
        pods: Callable[[], Iterable[PodView]],
        sink: OutputSink,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._follows = follows
        self._pods = pods
        self._sink = sink
        self._positions: dict[tuple[str, str], LogPosition] = {}
        self._done: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def look(self) -> None:
        """A Pod is not as it was: follow it, where it has something to say and is not followed yet."""
        followed = self._task is not None and not self._task.done()
        if followed or self._refused or self._current() is None:
            return
        self._task = self._follows.start(self._follow, f"log of {next(log_sources(self._pods())).pod}")

    def pause(self) -> None:
        """Follow no more; what was read is not read again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def finish(self) -> None:
        """Write what is missing. All containers have ended, or are of no more interest."""
        self.pause()
        while (source := self._current()) is not None:
            await self._complete(source)

    def _current(self) -> LogSource | None:
        """The first log that has begun and is not copied to its end."""
        return next((s for s in log_sources(self._pods()) if s.key not in self._done), None)

    async def _follow(self) -> None:
        """Copy what has begun, log by log, until nothing more has begun or the last has ended."""
        policy = self._follows.settings.pauses
        pauses = delays(policy)
        while (source := self._current()) is not None and not self._refused:
            if source.ended:
                await self._complete(source)
                continue
            if await self._stream(source):
                pauses = delays(policy)
            await asyncio.sleep(next(pauses))

    async def _stream(self, source: LogSource) -> bool:
        """Copy a log as it is written, until the stream ends; say whether anything came."""
        self._introduce(source)
        position = self._positions.get(source.key, BEGINNING)
        reader = LogReader(position)
        came = False
        try:
            async with self._client.follow_log(
                self._namespace, source.pod, source.container, since=position.since
            ) as chunks:
                async for chunk in chunks:
                    output = reader.feed(chunk)
                    self._positions[source.key] = reader.position
                    write_output(self._sink, output)
                    came = came or bool(output)
        except ForbiddenError:
            # The end tells of it, once.
            self._refused = True
        except ApiError as error:
            _logger.debug("the log of Pod %s is followed again later: %s", source.pod, error)
        return came

    async def _complete(self, source: LogSource) -> None:
        """Write what is missing of a log, and be done with it."""
        position = self._positions.get(source.key, BEGINNING)
        note: str | None = None
        try:
            log = await self._client.read_log_rest(
                self._namespace, source.pod, source.container, position
            )
        except ApiError as error:
            # A Pod that is gone after its log was followed has most likely said all.
            if not isinstance(error, NotFoundError) or position == BEGINNING:
                note = f"the log could not be read{_to_its_end(position)}: {error}"
        else:
            self._introduce(source)
            write_log(self._sink, log.tail)
        if note is not None:
            write_note(self._sink, note)
        self._done.add(source.key)

    def _introduce(self, source: LogSource) -> None:
        """Say where the output of another Pod of the same task begins."""
        known = {uid for uid, _ in (*self._positions, *self._done)}
        if known and source.uid not in known:
            write_note(self._sink, f"the task was started again, as Pod {source.pod}")
        self._positions.setdefault(source.key, BEGINNING)


def _to_its_end(position: LogPosition) -> str:
    return "" if position == BEGINNING else " to its end"
