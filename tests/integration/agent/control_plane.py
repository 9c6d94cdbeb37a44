"""A control plane that serves one run on a real socket and records its requests."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["RUN_ID", "TOKEN", "Answer", "ControlPlane", "serving"]

RUN_ID = "0198c0de-run"
TOKEN = "workload-token-hush"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class ControlPlane(ThreadingHTTPServer):
    """Sends ``answers`` in turn, and repeats the last one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def offer(
        self, prompt: str, *before: Answer, harness: str = "", state: str = "CLAIMED", **config: Any
    ) -> None:
        """Answer with a run of this prompt, after the answers in ``before``."""
        if harness:
            config["harness"] = {"type": harness}
        item = {
            "run_id": RUN_ID,
            "task_id": RUN_ID,
            "title": 'A "title"',
            "prompt": prompt,
            "state": state,
            "agent_config": config,
        }
        self.answers = [*before, Answer(200, json.dumps(item).encode())]


class _Handler(BaseHTTPRequestHandler):
    server: ControlPlane

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Stay silent."""


@contextmanager
def serving() -> Iterator[ControlPlane]:
    with ControlPlane() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
