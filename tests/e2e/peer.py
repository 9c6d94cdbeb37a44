"""A control plane for one worker: it assigns what a test makes up, and keeps what the worker answers.

It speaks the public protocol, with the extras ``ack`` and ``logs``. The tests are
synchronous: the server has threads of its own.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.frames import (
    CAPABILITIES_HEADER,
    Capability,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
    WorkerFrame,
    format_capabilities,
)
from tests.timeouts import HANG_TIMEOUT

__all__ = ["Ending", "Peer"]

PATH: Final = "/api/v1/selfhosted/worker/ws"
KEY: Final = "a-key-of-the-tests"
CAPABILITIES: Final = format_capabilities([Capability.ACK, Capability.LOGS])

Ending = TaskCompleted | TaskFailed


class Peer:
    """A context manager: a WebSocket server on loopback."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connection: ServerConnection | None = None
        self._assigned: dict[str, float] = {}
        self._rejected: dict[str, str] = {}
        self._endings: dict[str, list[tuple[float, Ending]]] = defaultdict(list)
        self._output: dict[str, bytearray] = defaultdict(bytearray)

    def __enter__(self) -> Self:
        self._server: Server = serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=_refuse_strangers,
            process_response=_name_capabilities,
            max_size=frames.MAX_FRAME_BYTES,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="peer")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def flags(self) -> tuple[str, ...]:
        """The worker's flags that lead it here."""
        port = self._server.socket.getsockname()[1]
        socket_url = f"ws://127.0.0.1:{port}{PATH}"
        return "--web-socket-url", socket_url, "--server-root-url", f"http://127.0.0.1:{port}"

    @property
    def key(self) -> str:
        """The API key that is accepted."""
        return KEY

    def assign(self, assignment: frames.TaskAssignment) -> str:
        """Hand out a task and return its ID."""
        self._until(lambda: self._connection is not None, 10.0, "the worker's connection")
        assert assignment.task_id is not None
        self._assigned[assignment.task_id] = time.monotonic()
        self._send(assignment)
        return assignment.task_id

    def cancel(self, task_id: str) -> None:
        """Ask for the end of a task."""
        self._send(frames.TaskCancellation(task_id=task_id))

    def ending(self, task_id: str, timeout: float = HANG_TIMEOUT) -> Ending:
        """Wait for a task's terminal report, the first and only one."""
        return self._ended(task_id, timeout)[1]

    def seconds(self, task_id: str) -> float:
        """How long a task that has ended took, from its assignment to its report."""
        return self._ended(task_id, 0.0)[0] - self._assigned[task_id]

    def _ended(self, task_id: str, timeout: float) -> tuple[float, Ending]:
        def ended() -> bool:
            assert task_id not in self._rejected, f"rejected: {self._rejected[task_id]}"
            return bool(self._endings[task_id])

        self._until(ended, timeout, f"the end of {task_id}")
        with self._changed:
            (ending,) = self._endings[task_id]
            return ending

    def wait_for_output(self, task_id: str, text: str, timeout: float = HANG_TIMEOUT) -> None:
        """Wait for a text in a task's output."""
        self._until(lambda: text.encode() in self._output[task_id], timeout, f"{text!r} in the output")

    def output(self, task_id: str) -> str:
        """All of a task's output so far."""
        with self._changed:
            return self._output[task_id].decode()

    def _until(self, holds: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, timeout), f"{what}: not seen in {timeout:.0f} s"

    def _send(self, frame: frames.ControlPlaneFrame) -> None:
        assert self._connection is not None
        self._connection.send(frames.encode_frame(frame))

    def _serve(self, connection: ServerConnection) -> None:
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        try:
            for text in connection:
                frame = frames.decode_worker_frame(text)
                self._take(frame)
                if isinstance(frame, TaskCompleted | TaskFailed) and frame.ack_id is not None:
                    connection.send(frames.encode_frame(frames.Ack(ack_id=frame.ack_id)))
        except ConnectionClosed:
            pass
        finally:
            with self._changed:
                self._connection = None

    def _take(self, frame: WorkerFrame) -> None:
        with self._changed:
            match frame:
                case TaskRejected(task_id=task_id, reason=reason):
                    self._rejected[task_id] = reason
                case TaskCompleted(task_id=task_id) | TaskFailed(task_id=task_id):
                    self._endings[task_id].append((time.monotonic(), frame))
                case TaskLog(task_id=task_id, offset=offset, text=text):
                    output, new = self._output[task_id], text.encode()
                    del output[offset:]
                    output += new
                case _:
                    pass
            self._changed.notify_all()


def _refuse_strangers(connection: ServerConnection, request: Request) -> Response | None:
    if request.headers.get("Authorization") == f"Bearer {KEY}":
        return None
    return connection.respond(HTTPStatus.UNAUTHORIZED, "another key, please\n")


def _name_capabilities(connection: ServerConnection, request: Request, response: Response) -> Response:
    headers = Headers(response.headers)
    headers[CAPABILITIES_HEADER] = CAPABILITIES
    response.headers = headers
    return response
