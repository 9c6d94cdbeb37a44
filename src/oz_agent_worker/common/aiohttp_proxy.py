"""Proxy options for aiohttp, and messages for requests that failed through a proxy.

aiohttp gets address and login separately, because its errors show whole addresses.
"""

import base64
from typing import TypedDict

import aiohttp

from .proxy import Proxy

__all__ = ["ProxyOptions", "failure_text", "proxy_options"]


class ProxyOptions(TypedDict):
    """Keyword arguments of a request of ``aiohttp.ClientSession``."""

    proxy: str | None
    proxy_headers: dict[str, str] | None


def proxy_options(proxy: Proxy | None) -> ProxyOptions:
    """Return the keyword arguments for a proxy; ``None`` is a direct connection."""
    if proxy is None:
        return {"proxy": None, "proxy_headers": None}
    if proxy.user is None and proxy.password is None:
        return {"proxy": proxy.url, "proxy_headers": None}
    user, password = (part.reveal() if part is not None else "" for part in (proxy.user, proxy.password))
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    # aiohttp makes Proxy-Authorization of it, on the CONNECT request or, without TLS, on the request itself.
    return {"proxy": proxy.url, "proxy_headers": {"Authorization": f"Basic {login}"}}


def failure_text(error: Exception, proxy: Proxy | None) -> str:
    """Describe why a request failed, and name the proxy: the cause may be there.

    aiohttp's own text repeats the address and the kind of TLS, so the system's error is used.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{proxy or 'the proxy'} answers HTTP {error.status} {error.message}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    text = str(cause) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"{proxy or 'the proxy'} cannot be reached: {text}"
    return f"{text} (through {proxy})" if proxy is not None else text
