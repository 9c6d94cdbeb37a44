"""What ``doctor`` checks of the control plane: reached, key accepted, clocks agree.

No WebSocket is opened: a worker that connects is given tasks, and a doctor takes none. The
key is shown to the API beside the WebSocket, by listing one run.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from oz_agent_worker import __version__
from oz_agent_worker.common.aiohttp_proxy import failure_words, proxy_options
from oz_agent_worker.common.proxy import Proxy, proxy_for
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
    """The HTTP API that belongs to a worker WebSocket; ``None`` where that cannot be told.

    The key goes nowhere but to the host that the worker itself shows it to; the public
    service, whose API has a host of its own, is the one exception.
    """
    if web_socket_url == DEFAULT_WEB_SOCKET_URL:
        return f"{DEFAULT_SERVER_ROOT_URL}/api/v1"
    url = _as_http(web_socket_url)
    return url.removesuffix(_SOCKET_PATH) if url.endswith(_WHOLE_PATH) else None


def _as_http(web_socket_url: str) -> str:
    parts = urlsplit(web_socket_url)
    scheme = "https" if parts.scheme == "wss" else "http"
    return urlunsplit((scheme, parts.netloc, parts.path, "", ""))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    skew: float | None


async def _ask(url: str, proxy: Proxy | None, key: Secret | None = None) -> _Answer:
    """Send one GET. Raises aiohttp's errors, OSError and TimeoutError."""
    headers = {"User-Agent": f"oz-agent-worker/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.reveal()}"
    sent = datetime.now(UTC)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
        http.get(url, allow_redirects=False, **proxy_options(proxy)) as response,
    ):
        return _Answer(response.status, clock_skew(response.headers.get("Date"), sent, datetime.now(UTC)))


def control_plane_checks(config: WorkerConfig, environ: Mapping[str, str]) -> list[Check]:
    """The checks, in the order in which they are shown. ``environ`` may name a proxy (``core.proxy``)."""
    skew: list[float | None] = []

    async def reached() -> CheckResult:
        url = _as_http(config.web_socket_url)
        proxy = proxy_for(url, environ)
        # Not a handshake, so that an error is what a control plane answers.
        answer = await _ask(url, proxy)
        skew.append(answer.skew)
        if answer.status >= 500:
            return fail(
                f"{config.web_socket_url} answers HTTP {answer.status}",
                "see whether the control plane, or the proxy before it, is well",
            )
        if answer.status == 404 and not url.endswith(_WHOLE_PATH):
            return warn(
                f"{config.web_socket_url} answers HTTP 404, and its path is not the usual one: "
                f"a control plane's worker WebSocket ends in {_WHOLE_PATH}"
            )
        return ok(config.web_socket_url + (f", through {proxy}" if proxy is not None else ""))

    async def accepted() -> CheckResult:
        if not config.api_key:
            return fail("no API key is given", "set WARP_API_KEY")
        root = api_root(config.web_socket_url)
        if root is None:
            return skip(f"the API that belongs to {config.web_socket_url} is not known")
        answer = await _ask(f"{root}/agent/runs?limit=1", proxy_for(root, environ), config.api_key)
        return judge_key(answer.status, root)

    async def clock() -> CheckResult:
        return judge_clock(skew[-1] if skew else None)

    told = "check --web-socket-url, and that a firewall or proxy lets this machine reach it"
    return [
        Check(_REACHED, _reporting(reached, told)),
        Check("API key", _reporting(accepted, told), (_REACHED,)),
        Check("control plane's clock", clock, (_REACHED,)),
    ]


def judge_key(status: int, root: str) -> CheckResult:
    """Judge by the HTTP status of a request with the key."""
    if status == 200:
        return ok(f"accepted by {root}")
    if status in {401, 403}:
        return fail(
            f"{root} refuses it (HTTP {status})",
            "check WARP_API_KEY, and that the key belongs to this team",
        )
    return warn(f"{root} answers HTTP {status}, which says nothing of the key")


def _reporting(
    check: Callable[[], Coroutine[None, None, CheckResult]], fix: str
) -> Callable[[], Coroutine[None, None, CheckResult]]:
    """Make a failure of what cannot be reached."""

    async def made() -> CheckResult:
        try:
            return await check()
        except TimeoutError:
            return fail(f"no answer within {_TIMEOUT:g} s", fix)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return fail(f"cannot be reached: {failure_words(error, None)}", fix)

    return made
