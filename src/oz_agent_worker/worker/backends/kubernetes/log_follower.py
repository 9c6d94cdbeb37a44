"""Copies a task's output to its sink: as it is written, and the rest of it at the end.

A container's log is followed from the time at which the watch shows that it runs, and after a broken
stream from where it ended. When the container has ended, what is missing is read in any case: the API
server also ends a stream regularly when it loses the kubelet. Requests for logs never change an
outcome, a result waits for them for a limited time, and there are none if the output is not wanted.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from oz_agent_worker.worker import log_fields
from oz_agent_worker.worker.backends.base import OutputSink

from .api.client import KubernetesClient
from .api.errors import ApiError, ForbiddenError, NotFoundError
from .api.retry import RetryPolicy, delays
from .logs.log_lines import BEGINNING, LogPosition, LogReader
from .logs.task_log import LogSource, log_sources, write_gap, write_log, write_note, write_output
from .objects import PodView

__all__ = ["LogFollower", "LogFollowers", "LogSettings"]

_logger = logging.getLogger(__name__)

#: How many kinds of the kubelet's errors are logged, and how many errors are told apart in one output.
_MOST_KINDS_OF_ERRORS: Final = 20
_MOST_ERRORS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How logs are followed.

    ``most_followed``: how many logs at a time; the rest reach their sinks when their tasks end.
    ``pauses``: how long to wait before a stream that ended is opened again, and ``error_pauses`` where
    the kubelet ended it with an error of its own, such as a node without another inotify watch.
    ``finish``: how long a task's result waits for the rest of its logs at most, in seconds.
    """

    most_followed: int = 100
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first=0.2, longest=10.0))
    error_pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first=1.0, longest=30.0))
    finish: float = 30.0


class LogFollowers:
    """The asyncio tasks that follow logs, those of all executions."""

    def __init__(self, settings: LogSettings | None = None) -> None:
        self.settings = settings or LogSettings()
        self._tasks: set[asyncio.Task[None]] = set()
        self._kinds_of_errors: set[str] = set()

    def note_error(self, pod: str, error: str) -> None:
        """Log an error of the kubelet, unless one of its kind was logged before."""
        # Paths and IDs come after the first quotation mark or colon.
        kind = re.split('[":]', error, maxsplit=1)[0]
        if kind not in self._kinds_of_errors and len(self._kinds_of_errors) < _MOST_KINDS_OF_ERRORS:
            self._kinds_of_errors.add(kind)
            _logger.warning(
                "The kubelet broke off the log of Pod %s: %s. This is logged once, and said in each task's"
                " output that it concerns.",
                pod,
                error,
            )

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
    _errors: Counter[str] = field(default_factory=Counter)
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
        """Stop following, and write what is missing of all logs, or that it could not be read in time.

        Call it again where it was cancelled; nothing is written twice.
        """
        self._finished = True
        if self._task is not None:
            self._task.cancel()
        self._pods = pods
        limit = self.followers.settings.finish
        try:
            async with asyncio.timeout(limit):
                while (source := self._next_source()) is not None:
                    await self._complete(source)
        except TimeoutError:
            while (source := self._next_source()) is not None:
                self._note_missing(source, f"the task ended {limit:g} s ago, and its result waits no longer")
        for error, times in self._errors.items():
            if times > 1:
                write_note(self.sink, f"the kubelet broke off the log {times} times: {error}")
        self._errors.clear()

    def _next_source(self) -> LogSource | None:
        """The first log that has begun and is not copied to its end."""
        return next((s for s in log_sources(self._pods) if s.key not in self._copied), None)

    async def _follow(self) -> None:
        """Copy log by log until no other one has begun or the last has ended."""
        # The watch starts this task, and the watch is no execution's.
        log_fields.about(next((pod.metadata.key for pod in self._pods), None))
        settings = self.followers.settings
        pauses, error_pauses = delays(settings.pauses), delays(settings.error_pauses)
        while (source := self._next_source()) is not None:
            if source.ended:
                await self._complete(source)
                continue
            before, pause = self._positions.get(source.key), next(pauses)
            try:
                if await self._stream(source):
                    # Whatever else was read: each attempt ends so for a while.
                    await asyncio.sleep(next(error_pauses))
                    continue
            except ForbiddenError:
                # An API server that starts refuses for a moment what it allows later.
                pause = settings.pauses.longest
            except ApiError as error:
                _logger.debug("The log of Pod %s will be followed again: %s", source.pod, error)
            if self._positions.get(source.key) != before:
                pauses, error_pauses = delays(settings.pauses), delays(settings.error_pauses)
            await asyncio.sleep(pause)

    async def _stream(self, source: LogSource) -> str:
        """Copy a log as it is written, until the stream ends; return the kubelet's error that ended it."""
        self._introduce(source)
        reader = LogReader(self._positions[source.key], followed=True)
        rotated = False
        async with self.client.follow_log(
            self.namespace, source.pod, source.container, since=reader.position.since
        ) as chunks:
            async for chunk in chunks:
                output = reader.feed(chunk)
                if reader.rotated and not rotated:
                    rotated = True
                    self._break_line(source)
                    write_gap(self.sink)
                self._positions[source.key] = reader.position
                write_output(self.sink, output)
        error = reader.end()
        if error:
            self._note_error(source, error)
        return error

    def _note_error(self, source: LogSource, error: str) -> None:
        """Write an error of the kubelet once; count it from then on."""
        self.followers.note_error(source.pod, error)
        if error in self._errors:
            self._errors[error] += 1
        elif len(self._errors) < _MOST_ERRORS:
            self._errors[error] = 1
            self._break_line(source)
            write_note(self.sink, f"the kubelet broke off the log, which is read again: {error}")

    def _break_line(self, source: LogSource) -> None:
        """End a line of the output that is not complete: a note comes."""
        position = self._positions.get(source.key)
        if position is not None and position.length:
            write_output(self.sink, b"\n")

    async def _complete(self, source: LogSource) -> None:
        """Write what is missing of a log, and mark it as copied."""
        position = self._positions.get(source.key, BEGINNING)
        try:
            log = await self.client.read_log(self.namespace, source.pod, source.container, after=position)
        except ApiError as error:
            # A Pod that is gone after its log was followed has most likely written no more.
            if isinstance(error, NotFoundError) and position != BEGINNING:
                self._copied.add(source.key)
            else:
                self._note_missing(source, str(error))
        else:
            self._introduce(source)
            if log.omission:
                self._break_line(source)
            write_log(self.sink, log)
            self._copied.add(source.key)

    def _note_missing(self, source: LogSource, why: str) -> None:
        """Write that the rest of a log is missing, and mark the log as copied."""
        extent = "" if self._positions.get(source.key, BEGINNING) == BEGINNING else " to its end"
        self._break_line(source)
        write_note(self.sink, f"the log could not be read{extent}: {why}")
        self._copied.add(source.key)

    def _introduce(self, source: LogSource) -> None:
        """Write a note where the output of another Pod of the same task begins."""
        known = {uid for uid, _ in (*self._positions, *self._copied)}
        if known and source.uid not in known:
            write_note(self.sink, f"the task was started again, as Pod {source.pod}")
        self._positions.setdefault(source.key, BEGINNING)
