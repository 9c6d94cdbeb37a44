"""A container registry with a few images and a bad day (OCI distribution specification, pull alone)."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

from .images import Image, digest, image_config

__all__ = ["Registry"]

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the registry says; ``name`` is the content's digest."""

    status: int
    kind: str
    body: bytes

    @property
    def name(self) -> str:
        return digest(self.body)


class Registry(ThreadingHTTPServer):
    """A context manager; on loopback, where containerd asks for no TLS.

    The first ``failures`` requests for a manifest are answered with status 503.
    """

    daemon_threads = True

    def __init__(self, images: Sequence[Image] = (), *, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._contents = {path: answer for image in images for path, answer in _contents(image).items()}
        self._failures = failures
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, name="registry")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def reference(self, name: str) -> str:
        """Name an image, there or not, so that it is asked for here."""
        return f"127.0.0.1:{self.server_port}/{name}"

    def answer(self, path: str) -> Answer:
        """Answer a GET or HEAD."""
        if "/manifests/" in path:
            with self._lock:
                failing, self._failures = self._failures > 0, self._failures - 1
            if failing:
                return _error(503, "UNAVAILABLE", "come back later")
        if path == "/v2/":
            return Answer(200, "application/json", b"{}")
        return self._contents.get(path) or _error(404, "MANIFEST_UNKNOWN", "manifest unknown")


def _contents(image: Image) -> dict[str, Answer]:
    """An image's manifest by tag and digest, and its blobs, by path."""
    name, _, tag = image.name.partition(":")
    config = Answer(200, CONFIG, image_config(image))
    layers = [Answer(200, LAYER, content) for content in image.layers]
    described = [{"mediaType": a.kind, "digest": a.name, "size": len(a.body)} for a in (config, *layers)]
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    manifest = Answer(200, MANIFEST, json.dumps(body).encode())
    blobs = {f"/v2/{name}/blobs/{answer.name}": answer for answer in (config, *layers)}
    return blobs | {f"/v2/{name}/manifests/{part}": manifest for part in (tag, manifest.name)}


def _error(status: int, code: str, message: str) -> Answer:
    body = {"errors": [{"code": code, "message": message}]}
    return Answer(status, "application/json", json.dumps(body).encode())


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes:
        answer = self.server.answer(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Docker-Content-Digest", answer.name)
        self.end_headers()
        return answer.body

    def log_message(self, *_: object) -> None:
        """Say nothing."""
