"""A proxy in aiohttp's terms, and the messages for failures on the way through one."""

import socket
from unittest.mock import Mock

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from oz_agent_worker.common.aiohttp_proxy import failure_text, proxy_options
from oz_agent_worker.common.proxy import Proxy
from oz_agent_worker.common.secret import Secret

PROXY = Proxy("http://proxy:3128", "HTTPS_PROXY", Secret("me"), Secret("hünter2"))


def test_without_a_proxy_aiohttp_gets_none() -> None:
    assert proxy_options(None) == {"proxy": None, "proxy_headers": None}


@pytest.mark.parametrize(
    ("user", "password", "encoded"),
    [(Secret("me"), Secret("hünter2"), "bWU6aMO8bnRlcjI="), (Secret("token"), None, "dG9rZW46")],
)
def test_a_login_is_a_header_in_utf_8(user: Secret, password: Secret | None, encoded: str) -> None:
    assert proxy_options(Proxy("http://proxy:3128", "HTTPS_PROXY", user, password)) == {
        "proxy": "http://proxy:3128", "proxy_headers": {"Authorization": f"Basic {encoded}"},
    }  # fmt: skip


def test_no_login_is_no_header() -> None:
    assert proxy_options(Proxy("http://proxy:3128", "HTTPS_PROXY")) == {
        "proxy": "http://proxy:3128", "proxy_headers": None,
    }  # fmt: skip


def refused_by_the_proxy() -> aiohttp.ClientHttpProxyError:
    asked = aiohttp.RequestInfo(URL("http://proxy:3128"), "CONNECT", CIMultiDictProxy(CIMultiDict()))
    return aiohttp.ClientHttpProxyError(asked, (), status=407, message="Proxy Authentication Required")


@pytest.mark.parametrize(
    ("error", "quoted_text"),
    [
        (
            refused_by_the_proxy(),
            "the proxy http://proxy:3128 (HTTPS_PROXY) answers HTTP 407 Proxy Authentication Required",
        ),
        (
            aiohttp.ClientProxyConnectionError(Mock(), OSError(111, "refused")),
            "the proxy http://proxy:3128 (HTTPS_PROXY) cannot be reached: [Errno 111] refused",
        ),
        (
            aiohttp.ClientConnectorError(Mock(), socket.gaierror("unknown host")),
            "unknown host (through the proxy http://proxy:3128 (HTTPS_PROXY))",
        ),
        (TimeoutError(), "no answer in time (through the proxy http://proxy:3128 (HTTPS_PROXY))"),
        (
            aiohttp.ServerDisconnectedError(),
            "Server disconnected (through the proxy http://proxy:3128 (HTTPS_PROXY))",
        ),
    ],
)
def test_a_failure_names_the_proxy_on_its_way(error: Exception, quoted_text: str) -> None:
    assert failure_text(error, PROXY) == quoted_text


@pytest.mark.parametrize(
    ("error", "quoted_text"),
    [
        (aiohttp.ClientConnectorError(Mock(), OSError(111, "refused")), "[Errno 111] refused"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(), "ConnectionResetError"),
        (refused_by_the_proxy(), "the proxy answers HTTP 407 Proxy Authentication Required"),
    ],
)
def test_a_failure_without_a_proxy(error: Exception, quoted_text: str) -> None:
    assert failure_text(error, None) == quoted_text
