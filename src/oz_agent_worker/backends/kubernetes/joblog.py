"""A task's output, read from its Pod's log when the task has ended."""

from collections import deque
from collections.abc import Iterator

from oz_agent_worker.backends.base import MAX_OUTPUT_CHUNK, OutputSink

from .views import PodView

__all__ = ["LogTail", "log_container", "write_log", "write_note"]


class LogTail:
    """Keeps the last ``limit`` bytes of what it is fed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self.dropped = 0
        """How many bytes were left out at the beginning."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the log."""
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept > self._limit:
            excess = self._kept - self._limit
            first = self._chunks.popleft()
            if len(first) > excess:
                self._chunks.appendleft(first[excess:])
            cut = min(excess, len(first))
            self._kept -= cut
            self.dropped += cut

    def chunks(self) -> Iterator[bytes]:
        """Yield what was kept, in order, in pieces that an output sink takes."""
        for chunk in self._chunks:
            for start in range(0, len(chunk), MAX_OUTPUT_CHUNK):
                yield chunk[start : start + MAX_OUTPUT_CHUNK]


def write_log(sink: OutputSink, tail: LogTail) -> None:
    """Write a log to the sink, saying first what is missing of it."""
    if tail.dropped:
        write_note(sink, f"the log's first {tail.dropped} bytes are left out")
    for chunk in tail.chunks():
        sink.write(chunk)


def write_note(sink: OutputSink, text: str) -> None:
    """Write a line of the worker's own among the task's."""
    sink.write(f"[oz-agent-worker: {text}]\n".encode()[:MAX_OUTPUT_CHUNK])


def log_container(pod: PodView, primary: str) -> str | None:
    """Name the container whose log tells how the task went; ``None`` where nothing ran.

    That is the primary one, or the init container that failed before it.
    """
    status = pod.status
    for container in (status.container_statuses if status else None) or ():
        state = container.state
        if container.name == primary and state and (state.running or state.terminated):
            return primary
    sidecars = pod.native_sidecars()
    for container in (status.init_container_statuses if status else None) or ():
        ended = container.terminated
        if ended is not None and ended.exit_code != 0 and container.name not in sidecars:
            return container.name
    return None
