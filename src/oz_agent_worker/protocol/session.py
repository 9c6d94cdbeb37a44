"""One connection to a control plane, without I/O.

What arrives goes to ``receive_text`` and ``receive_pong``, which return events; what is to be
sent comes from ``data_to_send``. Time is an argument (``now``, monotonic seconds), so that every
rule about time can be tested without waiting.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from . import frames
from .assignment import Assignment, AssignmentError, parse_assignment, trimmed
from .frames import Capability
from .log_stream import LogBuffers, LogChunk
from .outbox import Claim, Outbox
from .report import ExecutionKey, TerminalReport, claim, rejection, terminal_frame

__all__ = [
    "Assigned",
    "AssignmentRefused",
    "CancellationRequested",
    "Delivered",
    "Event",
    "FrameIgnored",
    "Ping",
    "Session",
    "Text",
]

PING_INTERVAL: Final = 30.0
DEAD_AFTER: Final = 60.0
#: Seconds after the pong within which a peer must acknowledge a report; then it is sent again.
ACK_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Assigned:
    """The control plane assigns an execution."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class AssignmentRefused:
    """An assignment that cannot be carried out, but whose task is known: the task must fail."""

    key: ExecutionKey
    why: str


@dataclass(frozen=True, slots=True)
class CancellationRequested:
    """The control plane wants an execution of this task ended, or all of them without an execution ID."""

    task_id: str
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The control plane has received these reports."""

    reports: tuple[TerminalReport, ...]


@dataclass(frozen=True, slots=True)
class FrameIgnored:
    """A frame that cannot be used. It holds nothing of the payload."""

    kind: str
    size: int
    why: str


Event = Assigned | AssignmentRefused | CancellationRequested | Delivered | FrameIgnored


@dataclass(frozen=True, slots=True)
class Text:
    """A text frame to write, and the execution that it is about."""

    kind: str
    text: str
    key: ExecutionKey | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping to write; its pong returns ``payload``."""

    payload: bytes


class _TaskReference(frames.LenientStruct, frozen=True):
    """The IDs of an assignment, as far as they are readable."""

    task_id: frames.LenientText = None
    execution_id: frames.LenientText = None


class Session:
    """The protocol's rules for one connection.

    ``outbox`` and ``logs`` outlive it: what the last connection did not deliver is due on this one.
    """

    def __init__(
        self,
        outbox: Outbox,
        logs: LogBuffers,
        *,
        worker_id: str,
        capabilities: frozenset[Capability],
        hello: frames.WorkerHello,
        now: float,
        ping_interval: float = PING_INTERVAL,
        dead_after: float = DEAD_AFTER,
        ack_timeout: float = ACK_TIMEOUT,
    ) -> None:
        self._outbox = outbox
        self._logs = logs
        self._worker_id = worker_id
        self._capabilities = capabilities
        self._pending: deque[Text] = deque()
        self._ping_interval = ping_interval
        self._dead_after = dead_after
        self._ack_timeout = ack_timeout
        self._received_at = now
        self._pinged_at = now
        self._last_ping = 0
        self._last_pong = 0
        self._unproven = False  # something was sent after the last ping
        outbox.reset()
        logs.reset(wanted=Capability.LOGS in capabilities)
        if Capability.HELLO in capabilities:
            self._pending.append(_text(hello))

    @property
    def _extended(self) -> bool:
        return Capability.ACK in self._capabilities

    # ------------------------------------------------------------------------- in

    def receive_text(self, frame: str | bytes, now: float) -> Event:
        """Decode a frame into an event. Never raises, whatever the peer sends."""
        self._received_at = now
        try:
            decoded = frames.decode_control_plane_frame(frame)
            if isinstance(decoded, frames.TaskAssignment):
                return _assignment(decoded, frame)
            if isinstance(decoded, frames.TaskCancellation):
                return CancellationRequested(decoded.task_id, decoded.execution_id)
            return Delivered(tuple(self._outbox.confirm(decoded.ack_id)))
        except frames.FrameError as error:
            if error.kind == frames.TaskAssignment.kind:
                return _unusable(error.data, error.size, error.why)
            return FrameIgnored(error.kind, error.size, error.why)

    def receive_pong(self, payload: bytes, now: float) -> Delivered:
        """Note that the peer has read what was sent before the pong's ping.

        Pongs that answer no ping are allowed (RFC 6455, section 5.5.3) and ignored.
        """
        self._received_at = now
        barrier = int(payload) if payload.isdigit() and len(payload) < 20 else 0
        if barrier > self._last_ping:
            return Delivered(())
        self._last_pong = max(self._last_pong, barrier)
        reports = self._outbox.confirm_barrier(barrier, terminal_too=not self._extended, now=now)
        self._logs.confirm_barrier(barrier)
        return Delivered(tuple(reports))

    def receive_other(self, now: float) -> None:
        """Note a ping or another sign of life."""
        self._received_at = now

    # ------------------------------------------------------------------------ out

    def reject(self, key: ExecutionKey, reason: str, message: str | None = None) -> None:
        """Hand a task back. It is sent on this connection or never."""
        self._pending.append(_text(rejection(key, reason, message, extended=self._extended), key))

    def data_to_send(self, now: float) -> Iterator[Text | Ping]:
        """Yield what is to be written; an item counts as written when it is yielded.

        The order is claims, output, terminal reports, which is the order for one execution. A
        ping follows what needs one to show its delivery, unless the last ping is unanswered: then
        one ping after its pong serves for all that was sent meanwhile. One call does not yield
        everything: a task that prints without end always has more.
        """
        while self._pending:
            yield self._pending.popleft()
        self._outbox.repeat(now - self._ack_timeout)
        if self._owed:
            self._unproven = True
            yield from self._outgoing(self._last_ping + 1)
        if self._ping_due or now >= self._pinged_at + self._ping_interval:
            self._pinged_at = now
            self._unproven = False
            self._last_ping += 1
            yield Ping(str(self._last_ping).encode())

    @property
    def _owed(self) -> bool:
        return self._outbox.has_due or self._logs.has_due

    @property
    def _ping_due(self) -> bool:
        return self._unproven and self._last_pong >= self._last_ping

    def _outgoing(self, barrier: int) -> Iterator[Text]:
        # Both are read before the first write. What is added during the writes waits for the
        # next call; otherwise output would overtake its claim.
        due = self._outbox.due(barrier)
        writers = self._logs.due()
        reports = [(ack_id, item) for ack_id, item in due if isinstance(item, TerminalReport)]
        ended = {report.key for _, report in reports}
        for _, item in due:
            if isinstance(item, Claim):
                yield _text(claim(item.key, self._worker_id, extended=self._extended), item.key)
        for key in writers:
            yield from map(_output, self._chunks(key, barrier, everything=key in ended))
        for ack_id, report in reports:
            yield _text(terminal_frame(report, ack_id=ack_id if self._extended else None), report.key)

    def _chunks(self, key: ExecutionKey, barrier: int, *, everything: bool) -> Iterable[LogChunk]:
        """Yield all output of an execution that ended, else one chunk, so that each gets its turn."""
        while (chunk := self._logs.take(key, barrier)) is not None:
            yield chunk
            if not everything:
                return

    # ----------------------------------------------------------------------- time

    def is_dead(self, now: float) -> bool:
        """Return whether the peer has been silent for too long."""
        return now >= self._received_at + self._dead_after

    def next_timer(self) -> float:
        """Return when to call again if nothing arrives.

        That is for what is left to write, a ping, an unacknowledged report, or a dead peer.
        """
        if self._pending or self._owed or self._ping_due:
            return self._received_at  # at once
        timers = [self._pinged_at + self._ping_interval, self._received_at + self._dead_after]
        if (since := self._outbox.awaiting_ack_since) is not None:
            timers.append(since + self._ack_timeout)
        return min(timers)


def _output(chunk: LogChunk) -> Text:
    key = chunk.key
    frame = frames.TaskLog(
        task_id=key.task_id, execution_id=key.execution_id, offset=chunk.offset, text=chunk.text
    )
    return _text(frame, key)


def _text(frame: frames.WorkerFrame, key: ExecutionKey | None = None) -> Text:
    return Text(frame.kind, frames.encode_frame(frame), key)


def _assignment(decoded: frames.TaskAssignment, frame: str | bytes) -> Event:
    try:
        return Assigned(parse_assignment(decoded))
    except AssignmentError as error:
        size = len(frame.encode()) if isinstance(frame, str) else len(frame)
        return _refused(decoded, size, str(error))


def _unusable(data: bytes, size: int, why: str) -> Event:
    try:
        reference = msgspec.json.decode(data, type=_TaskReference)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        reference = _TaskReference()
    return _refused(reference, size, why)


def _refused(reference: _TaskReference | frames.TaskAssignment, size: int, why: str) -> Event:
    """Refuse an assignment with wrong fields under its task's ID; without one it is ignored."""
    task_id = trimmed(reference.task_id)
    if task_id is None:
        return FrameIgnored(frames.TaskAssignment.kind, size, why)
    return AssignmentRefused(ExecutionKey(task_id, trimmed(reference.execution_id) or task_id), why)
