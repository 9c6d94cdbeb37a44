"""The checks of ``doctor`` on the control plane: is it reached, is the key accepted, do clocks agree.

No WebSocket is opened, because a worker that connects is given tasks. The key is checked by listing
one run through the HTTP API beside the WebSocket.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from oz_agent_worker import __version__
from oz_agent_worker.common.aiohttp_proxy import failure_text, proxy_options
from oz_agent_worker.common.proxy import proxy_for
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.checks import Check, CheckResult, fail, ok, skip, warn
from oz_agent_worker.worker.clock_skew import clock_skew, judge_clock
from oz_agent_worker.worker.config.load import DEFAULT_SERVER_ROOT_URL, DEFAULT_WEB_SOCKET_URL, WorkerConfig

__all__ = ["api_root", "control_plane_checks"]

_SOCKET_PATH: Final = "/selfhosted/worker/ws"
_WHOLE_PATH: Final = f"/api/v1{_SOCKET_PATH}"
_TIMEOUT: Final = 10.0
_REACHED: Final = "control plane"


def api_root(web_socket_url: str) -> str | None:
    """Return the HTTP API that belongs to a worker's WebSocket; ``None`` if it is unknown.

    The key goes only to the host that the worker sends it to, except that the public service has
    another host for its API.
    """
    if web_socket_url == DEFAULT_WEB_SOCKET_URL:
        return f"{DEFAULT_SERVER_ROOT_URL}/api/v1"
    url = _as_http(web_socket_url)
    return url.removesuffix(_SOCKET_PATH) if url.endswith(_WHOLE_PATH) else None


def _as_http(web_socket_url: str) -> str:
    parts = urlsplit(web_socket_url)
    scheme = "https" if parts.scheme == "wss" else "http"
    return urlunsplit((scheme, parts.netloc, parts.path, "", ""))


class _UnreachableError(Exception):
    """The control plane did not answer; the text says why."""


async def _ask(url: str, environ: Mapping[str, str], key: Secret | None = None) -> tuple[int, float | None]:
    """Send one GET; return the status, and how many seconds the server's clock is ahead if known.

    Raises:
        _UnreachableError: there is no answer.
    """
    headers = {"User-Agent": f"oz-agent-worker/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.reveal()}"
    sent, timeout = datetime.now(UTC), aiohttp.ClientTimeout(total=_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
            http.get(url, allow_redirects=False, **proxy_options(proxy_for(url, environ))) as response,
        ):
            return response.status, clock_skew(response.headers.get("Date"), sent, datetime.now(UTC))
    except TimeoutError as error:
        raise _UnreachableError(f"no answer within {_TIMEOUT:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _UnreachableError(f"cannot be reached: {failure_text(error, None)}") from error


def control_plane_checks(config: WorkerConfig, environ: Mapping[str, str]) -> list[Check]:
    """Return the checks in the order in which they are shown; ``environ`` may name a proxy."""
    skew: float | None = None
    advice = "check --web-socket-url, and that a firewall or proxy lets this machine reach it"

    async def reached() -> CheckResult:
        nonlocal skew
        url = _as_http(config.web_socket_url)
        try:
            # A GET without the handshake: a control plane answers it with an error.
            status, skew = await _ask(url, environ)
        except _UnreachableError as error:
            return fail(str(error), advice)
        if status >= 500:
            return fail(
                f"{config.web_socket_url} answers HTTP {status}",
                "check the health of the control plane, and of the proxy before it",
            )
        if status == 404 and not url.endswith(_WHOLE_PATH):
            return warn(
                f"{config.web_socket_url} answers HTTP 404, and its path is not the usual one: "
                f"a control plane's worker WebSocket ends in {_WHOLE_PATH}"
            )
        proxy = proxy_for(url, environ)
        return ok(config.web_socket_url + (f", through {proxy}" if proxy is not None else ""))

    async def accepted() -> CheckResult:
        if not config.api_key:
            return fail("no API key is given", "set WARP_API_KEY")
        root = api_root(config.web_socket_url)
        if root is None:
            return skip(f"the API that belongs to {config.web_socket_url} is not known")
        try:
            status, _ = await _ask(f"{root}/agent/runs?limit=1", environ, config.api_key)
        except _UnreachableError as error:
            return fail(str(error), advice)
        return judge_key(status, root)

    async def clock() -> CheckResult:
        return judge_clock(skew)

    return [
        Check(_REACHED, reached),
        Check("API key", accepted, (_REACHED,)),
        Check("control plane's clock", clock, (_REACHED,)),
    ]


def judge_key(status: int, root: str) -> CheckResult:
    """Evaluate the HTTP status of a request with the key."""
    if status == 200:
        return ok(f"accepted by {root}")
    if status in {401, 403}:
        return fail(
            f"{root} refuses it (HTTP {status})",
            "check WARP_API_KEY, and that the key belongs to this team",
        )
    return warn(f"{root} answers HTTP {status}, which says nothing about the key")
