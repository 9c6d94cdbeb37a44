"""Which container logs are a task's output, and how they are written to its sink. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.worker.backends.base import MAX_OUTPUT_CHUNK, OutputSink
from oz_agent_worker.worker.backends.kubernetes.manifest.job import SETUP_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, PodView, in_order

from .log_lines import LogPosition, LogReader

__all__ = [
    "ROTATED",
    "LogSource",
    "LogTail",
    "annotated",
    "log_container",
    "log_sources",
    "write_gap",
    "write_log",
    "write_note",
    "write_output",
]


ROTATED: Final = "the container's log was rotated meanwhile"
#: A new file is served from its beginning, and the rest of the one before it is not.
_MISSING: Final = f"{ROTATED}, and a part of it may be missing here"


class LogTail:
    """Keeps the last ``limit`` bytes of a log that it is fed.

    With ``after`` the log has timestamps, which are removed, and what was read up to that position
    is left out.
    """

    def __init__(self, limit: int, after: LogPosition | None = None) -> None:
        self._limit = limit
        self._reader = LogReader(after) if after is not None else None
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self.starts_late = False
        """Whether it was not fed from the requested position on, but from a later one."""
        self.unread = ""
        """Why the rest of the log could not be read; empty where it was."""
        self.received = 0
        """How many bytes it was fed, timestamps included."""
        self.dropped = 0
        """How many bytes of the output were left out at the beginning."""
        self.error = ""
        """The kubelet's own error at the end of the answer, if it ends with one."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the log."""
        self.received += len(chunk)
        self._keep(self._reader.feed(chunk) if self._reader is not None else chunk)

    def end(self) -> None:
        """Take the regular end of the answer."""
        if self._reader is not None:
            self.error = self.unread = self._reader.end()

    def _keep(self, output: bytes) -> None:
        if output:
            self._chunks.append(output)
            self._kept += len(output)
        while self._kept > self._limit:
            excess = self._kept - self._limit
            first = self._chunks.popleft()
            if len(first) > excess:
                self._chunks.appendleft(first[excess:])
            cut = min(excess, len(first))
            self._kept -= cut
            self.dropped += cut

    def go_on(self, later: "LogTail") -> None:
        """Append what was kept of the next log file; note that a part may be missing before it."""
        self._keep(f"\n{_noted(_MISSING)}".encode())
        for chunk in later.chunks():
            self._keep(chunk)

    @property
    def size(self) -> int:
        """How many bytes of output it was fed."""
        return self._kept + self.dropped

    @property
    def ending(self) -> str:
        """Why the log does not end with what was kept, for people; empty where it does."""
        return f"the log was read so far, and its end could not be: {self.unread}" if self.unread else ""

    @property
    def omission(self) -> str:
        """What is missing of the log before what was kept, for people; empty where nothing is."""
        if self.starts_late:
            return f"all but the last {self._kept} bytes of the log are left out here"
        if self.dropped:
            return f"{self.dropped} bytes of the log are left out here"
        return _MISSING if self._reader is not None and self._reader.rotated else ""

    def chunks(self) -> Iterator[bytes]:
        """Yield what was kept, in order, in pieces that an output sink takes."""
        for chunk in self._chunks:
            yield from _pieces(chunk)


def annotated(tail: LogTail) -> Iterator[bytes]:
    """Yield a log in pieces that an output sink takes, with a note where a part is missing."""
    if tail.omission:
        yield _noted(tail.omission).encode()[:MAX_OUTPUT_CHUNK]
    piece = b""
    for piece in tail.chunks():
        yield piece
    if tail.ending:
        line = "" if not piece or piece.endswith(b"\n") else "\n"
        yield f"{line}{_noted(tail.ending)}".encode()[:MAX_OUTPUT_CHUNK]


def write_log(sink: OutputSink, tail: LogTail) -> None:
    """Write a log to the sink, with notes about what is missing (``annotated``)."""
    for piece in annotated(tail):
        sink.write(piece)


def write_output(sink: OutputSink, output: bytes) -> None:
    """Write output of any size in pieces that an output sink takes."""
    for piece in _pieces(output):
        sink.write(piece)


def _pieces(output: bytes) -> Iterator[bytes]:
    for start in range(0, len(output), MAX_OUTPUT_CHUNK):
        yield output[start : start + MAX_OUTPUT_CHUNK]


def write_gap(sink: OutputSink) -> None:
    """Write that another log file follows, and that a part of the one before it may be missing."""
    write_note(sink, _MISSING)


def write_note(sink: OutputSink, text: str) -> None:
    """Write a line of the worker into the task's output."""
    sink.write(_noted(text).encode()[:MAX_OUTPUT_CHUNK])


def _noted(text: str) -> str:
    return f"[oz-agent-worker: {text}]\n"


@dataclass(frozen=True, slots=True)
class LogSource:
    """A container whose log is part of the task's output; ``ended`` means that the log is complete."""

    pod: str
    uid: str
    container: str
    ended: bool

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the container: the same one of another Pod has another key."""
        return self.uid, self.container


def log_sources(pods: Iterable[PodView]) -> Iterator[LogSource]:
    """Yield the logs that a task's output consists of, in order, as far as they have begun.

    These are, of each Pod, the log of the setup command, that of an init container that failed, and
    that of the task. A log begins when its container runs.
    """
    for pod in in_order(pods):
        for container, ended in _begun(pod):
            yield LogSource(pod.metadata.name, pod.identity, container, ended)


def _begun(pod: PodView) -> Iterator[tuple[str, bool]]:
    for container in pod.init_container_statuses:
        is_setup = container.name == SETUP_CONTAINER and container.has_started
        if is_setup or _failed_before_the_task(pod, container):
            yield container.name, container.terminated is not None
    for container in pod.container_statuses:
        if container.name == TASK_CONTAINER and container.has_started:
            yield container.name, container.terminated is not None


def log_container(pod: PodView, primary: str) -> str | None:
    """Name the container whose log explains the task's end; ``None`` where nothing ran.

    That is the primary container, or the init container that failed before it.
    """
    if any(container.name == primary and container.has_started for container in pod.container_statuses):
        return primary
    failed = (c.name for c in pod.init_container_statuses if _failed_before_the_task(pod, c))
    return next(failed, None)


def _failed_before_the_task(pod: PodView, container: ContainerStatus) -> bool:
    """Whether an init container failed, so that the task never started. Native sidecars do not count."""
    ended = container.terminated
    return ended is not None and ended.exit_code != 0 and container.name not in pod.native_sidecars()
