"""Fetching the run: prepare the request, send it, interpret the reply, and try again.

The workload token goes to the server root URL and nowhere else: no redirect is
followed, and no text of this module ever holds it.
"""

import email.utils
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from ssl import SSLCertVerificationError
from typing import IO, Final

from oz_agent_worker import __version__

from .certificates import trusting_context
from .errors import FetchError
from .progress import Say, plain
from .run import Run, decode_run

__all__ = [
    "Reply",
    "TransientError",
    "delays",
    "fetch_run",
    "interpret",
    "prepare",
    "retry_after",
    "send",
]

REQUEST_TIMEOUT: Final = 10.0
"""Seconds that one connect, write or read may take."""
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 5.0


@dataclass(frozen=True)
class Reply:
    """An HTTP response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransientError(Exception):
    """The next attempt may succeed. ``after`` is the wait the server asked for, in seconds."""

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


def prepare(server_root_url: str, run_id: str, token: str) -> urllib.request.Request:
    """Build the request for a run.

    Raises:
        FetchError: the URL is no plain http(s) URL, or the token is missing or unfit
            for a header.
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
    """Send the request; the proxies of the environment are honoured, redirects are not.

    Raises:
        TransientError: no response, or half of one.
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
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, response.read(MAX_BODY_BYTES + 1))
    except urllib.error.URLError as error:
        if isinstance(error.reason, SSLCertVerificationError):
            raise FetchError(
                f"{request.host}: certificate not trusted: {plain(str(error.reason))}"
            ) from error
        raise TransientError(f"{request.host} is not reachable: {plain(str(error.reason))}") from error
    except (OSError, HTTPException) as error:
        # HTTPException's text may quote the peer's bytes; its kind says enough.
        why = plain(str(error)) if isinstance(error, OSError) else type(error).__name__
        raise TransientError(f"{request.host}: the connection failed: {why}") from error


def interpret(reply: Reply, run_id: str, now: float) -> Run:
    """Turn a reply into the run. ``now`` is Unix time, for a Retry-After that is a date.

    Raises:
        TransientError: 408, 429 or 5xx.
        FetchError: any other status, or a body that is no run item.
    """
    if reply.status == 200:
        if len(reply.body) > MAX_BODY_BYTES:
            raise FetchError(f"the run item is larger than {MAX_BODY_BYTES >> 20} MiB")
        return decode_run(reply.body, run_id)
    problem = _problem(reply.body)
    said = f"HTTP {reply.status}" + (f": {problem}" if problem else "")
    if reply.status in (408, 429) or reply.status >= 500:
        raise TransientError(f"the control plane is not ready ({said})", retry_after(reply.headers, now))
    if reply.status in (401, 403):
        raise FetchError(f"the control plane refused this run's token, WARP_API_KEY ({said})")
    if reply.status == 404:
        raise FetchError(f"the control plane knows no run {plain(run_id, 80)} ({said})")
    if 300 <= reply.status < 400:
        raise FetchError(
            f"the control plane redirects ({said}): the token goes to no other URL, give its own"
        )
    raise FetchError(f"the control plane refused the request ({said})")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), if there is a sound one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _problem(body: bytes) -> str:
    """Return what a problem+json body (RFC 7807) says, in one line."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    members = problem if isinstance(problem, dict) else {}
    texts = (members.get(name) for name in ("detail", "title", "error"))
    return plain(next((text for text in texts if isinstance(text, str) and text), ""))


def delays(uniform: Callable[[float, float], float]) -> Iterator[float]:
    """Yield the waits between attempts, in seconds: doubling, half of each at random."""
    longest = FIRST_DELAY
    while True:
        yield uniform(longest / 2, longest)
        longest = min(2 * longest, LONGEST_DELAY)


def fetch_run(
    request: urllib.request.Request,
    run_id: str,
    budget: float,
    say: Say,
    *,
    sender: Callable[[urllib.request.Request, float], Reply] = send,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Run:
    """Fetch the run, trying again for ``budget`` seconds where that may help.

    Raises:
        FetchError: refused, or not reached within the budget.
    """
    start = clock()
    for attempt, delay in enumerate(delays(uniform), start=1):
        try:
            left = budget - (clock() - start)
            return interpret(sender(request, min(REQUEST_TIMEOUT, max(left, 1.0))), run_id, wall_clock())
        except TransientError as error:
            wait = max(delay, error.after or 0.0)
            spent = clock() - start
            if spent + wait > budget:
                tried = f"{attempt} attempt{'s' if attempt > 1 else ''} in {spent:.0f} s"
                asked = f", and it asks to wait {error.after:.0f} s" if error.after else ""
                raise FetchError(f"{error}; {tried}{asked}") from error
            say(f"{error}; trying again in {wait:.1f} s")
        sleep(wait)
    raise AssertionError("delays() does not end")
