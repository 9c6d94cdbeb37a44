"""A synchronous client of the API server for the harness itself: a connection a request, no retry."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.timeouts import HANG_TIMEOUT

from .errors import ApiError, ClusterError
from .kubeconfig import Connection

__all__ = ["RestClient", "wait_for"]


@dataclass(frozen=True, slots=True)
class RestClient:
    """Requests with the credentials of one user."""

    connection: Connection
    timeout: float = HANG_TIMEOUT

    def get(self, path: str) -> Any:
        """GET one object or list."""
        return self.request("GET", path)

    def create(self, path: str, body: Any) -> Any:
        """POST one object."""
        return self.request("POST", path, body)

    def delete(self, path: str, **options: Any) -> Any:
        """DELETE with DeleteOptions, such as ``propagationPolicy="Background"``."""
        return self.request("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return the decoded JSON. Raises as ``exchange`` does."""
        return json.loads(self.exchange(method, path, body))

    def exchange(self, method: str, path: str, body: Any = None) -> str:
        """Send one request and return the answer's text: for what is no JSON, such as a log or a watch.

        Raises:
            ApiError: the server answered with a status of 400 or more.
            OSError: there was no answer.
        """
        url = urlsplit(self.connection.server)
        address = (url.hostname or "", url.port or 443)
        tls = self.connection.ssl_context
        link = http.client.HTTPSConnection(*address, timeout=self.timeout, context=tls)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", **self.connection.headers}
            link.request(method, f"{url.path}{path}", payload, headers)
            answer = link.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            link.close()
        if answer.status >= 400:
            raise ApiError(method, path, answer.status, text)
        return text


def wait_for(what: str, check: Callable[[], bool], *, timeout: float = HANG_TIMEOUT) -> None:
    """Poll every 10 ms until ``check`` holds; the harness's own waits, which have no event to await."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {timeout:.0f} s")
        time.sleep(0.01)
