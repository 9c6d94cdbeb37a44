"""Fetching the run: build the request, send it, decode the reply, and retry.

The workload token goes to the server root URL and nowhere else: redirects are not followed, and no text
of this module contains the token.
"""

import email.utils
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from ssl import SSLCertVerificationError
from typing import IO, Final

from oz_agent_worker import __version__

from .certificates import trusting_context
from .errors import FetchError
from .log import Log, single_line
from .run_item import RunItem, decode_run_item

__all__ = [
    "Reply",
    "TransientError",
    "decode_reply",
    "fetch_run",
    "retry_after",
    "retry_delays",
    "run_request",
    "send",
]

REQUEST_TIMEOUT: Final = 10.0
"""Seconds that one connect, write or read may take."""
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 5.0


@dataclass(frozen=True)
class Reply:
    """An HTTP response; ``retry_after`` is the header of that name, empty where it is absent."""

    status: int
    body: bytes
    retry_after: str = ""


class TransientError(Exception):
    """The next attempt may succeed. ``after`` is the delay that the server asked for, in seconds."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def run_request(server_root_url: str, run_id: str, token: str) -> urllib.request.Request:
    """Build the request for a run.

    Raises:
        FetchError: the URL is not a plain http(s) URL, or the token is missing or cannot be a header.
    """
    parts = urllib.parse.urlsplit(server_root_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise FetchError("the server root URL must look like https://host[:port][/path], without credentials")
    if not token:
        raise FetchError("WARP_API_KEY is not set: the worker hands the run's token to the agent in it")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise FetchError("WARP_API_KEY holds characters that no token has")
    url = f"{server_root_url.rstrip('/')}/api/v1/agent/runs/{urllib.parse.quote(run_id, safe='')}"
    headers = {"Accept": "application/json", "User-Agent": f"oz-agent/{__version__}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - scheme checked
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def send(request: urllib.request.Request, timeout: float) -> Reply:
    """Send the request through the proxies of the environment; redirects are not followed.

    Raises:
        TransientError: no response, or an incomplete one.
        FetchError: the server's certificate is not trusted.
    """
    https = urllib.request.HTTPSHandler(context=trusting_context())
    opener = urllib.request.build_opener(_NoRedirects, https)
    try:
        try:
            response = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            body = response.read(MAX_BODY_BYTES + 1)
            return Reply(response.status, body, response.headers.get("Retry-After", ""))
    except urllib.error.URLError as error:
        if isinstance(error.reason, SSLCertVerificationError):
            raise FetchError(
                f"{request.host}: certificate not trusted: {single_line(str(error.reason))}"
            ) from error
        raise TransientError(f"{request.host} is not reachable: {single_line(str(error.reason))}") from error
    except (OSError, HTTPException) as error:
        # The text of an HTTPException may quote the peer's bytes: its type is enough.
        why = single_line(str(error)) if isinstance(error, OSError) else type(error).__name__
        raise TransientError(f"{request.host}: the connection failed: {why}") from error


def decode_reply(reply: Reply, run_id: str, now: float) -> RunItem:
    """Turn a reply into the run. ``now`` is Unix time, for a Retry-After that is a date.

    Raises:
        TransientError: 408, 429 or 5xx.
        FetchError: any other status, or a body that is no run item.
    """
    if reply.status == 200:
        if len(reply.body) > MAX_BODY_BYTES:
            raise FetchError(f"the run item is larger than {MAX_BODY_BYTES >> 20} MiB")
        return decode_run_item(reply.body, run_id)
    problem = _problem(reply.body)
    status = f"HTTP {reply.status}" + (f": {problem}" if problem else "")
    if reply.status in (408, 429) or reply.status >= 500:
        raise TransientError(
            f"the control plane is not ready ({status})", retry_after(reply.retry_after, now)
        )
    if reply.status in (401, 403):
        raise FetchError(f"the control plane refused this run's token, WARP_API_KEY ({status})")
    if reply.status == 404:
        raise FetchError(f"the control plane knows no run {single_line(run_id, 80)} ({status})")
    if 300 <= reply.status < 400:
        raise FetchError(
            f"the control plane redirects ({status}): the token is sent to no other URL, use the final one"
        )
    raise FetchError(f"the control plane refused the request ({status})")


def retry_after(header: str, now: float) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3); None where it is invalid or empty."""
    value = header.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _problem(body: bytes) -> str:
    """Return the message of a problem+json body (RFC 7807), in one line."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    members = problem if isinstance(problem, dict) else {}
    texts = (members.get(name) for name in ("detail", "title", "error"))
    return single_line(next((text for text in texts if isinstance(text, str) and text), ""))


def retry_delays(uniform: Callable[[float, float], float]) -> Iterator[float]:
    """Yield the delays between attempts, in seconds: doubling, half of each at random."""
    longest = FIRST_DELAY
    while True:
        yield uniform(longest / 2, longest)
        longest = min(2 * longest, LONGEST_DELAY)


def fetch_run(
    request: urllib.request.Request,
    run_id: str,
    budget: float,
    log: Log,
    *,
    sender: Callable[[urllib.request.Request, float], Reply] = send,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> RunItem:
    """Fetch the run; retry for ``budget`` seconds what another attempt may cure.

    Raises:
        FetchError: refused, or not reached within the budget.
    """
    start = clock()
    for attempt, delay in enumerate(retry_delays(uniform), start=1):
        try:
            left = budget - (clock() - start)
            return decode_reply(sender(request, min(REQUEST_TIMEOUT, max(left, 1.0))), run_id, wall_clock())
        except TransientError as error:
            wait = max(delay, error.after or 0.0)
            spent = clock() - start
            if spent + wait > budget:
                tried = f"{attempt} attempt{'s' if attempt > 1 else ''} in {spent:.0f} s"
                asked = f", and it asks to wait {error.after:.0f} s" if error.after else ""
                raise FetchError(f"{error}; {tried}{asked}") from error
            log(f"{error}; trying again in {wait:.1f} s")
        sleep(wait)
    raise AssertionError("retry_delays() does not end")
