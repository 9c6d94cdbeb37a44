"""The choice of a proxy, case by case as ``golang.org/x/net/http/httpproxy`` decides it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.proxy import Proxy, ProxyError, parse_proxy, proxy_for
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ExitCode

BOTH = {"HTTPS_PROXY": "http://secure:1", "HTTP_PROXY": "http://plain:2"}


def chosen(url: str, **environ: str) -> str | None:
    """The address of the proxy for ``url``."""
    proxy = proxy_for(url, environ)
    return proxy.url if proxy is not None else None


def goes_direct(url: str, no_proxy: str) -> bool:
    return chosen(url, **BOTH, NO_PROXY=no_proxy) is None


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_https_proxy_is_for_tls(scheme: str) -> None:
    assert chosen(f"{scheme}://k8s:6443", **BOTH) == "http://secure:1"
    assert chosen(f"{scheme}://k8s:6443", HTTP_PROXY="http://plain:2", ALL_PROXY="http://all:3") is None


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_http_proxy_is_for_what_is_in_clear(scheme: str) -> None:
    assert chosen(f"{scheme}://k8s:8080", **BOTH) == "http://plain:2"
    assert chosen(f"{scheme}://k8s:8080", HTTPS_PROXY="http://secure:1") is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"https_proxy": "http://lower:1"}, "http://lower:1"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "http://upper:1"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": ""}, "http://lower:1"),
        ({"https_proxy": "http://lower:1", "no_proxy": "k8s"}, None),
        ({"https_proxy": "http://lower:1", "no_proxy": "k8s", "NO_PROXY": "other"}, "http://lower:1"),
        ({"https_proxy": "http://lower:1", "no_proxy": "k8s", "NO_PROXY": ""}, None),
        ({}, None),
    ],
)
def test_names_in_upper_case_come_first(environ: dict[str, str], expected: str | None) -> None:
    assert chosen("https://k8s", **environ) == expected


@pytest.mark.parametrize(
    "url", ["ftp://host:21", "socks5://host:1080/", "host:80", "", "http://[::", "http://"]
)
def test_what_is_no_address_of_the_web_has_no_proxy(url: str) -> None:
    assert chosen(url, **BOTH) is None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_loopback_is_never_proxied(host: str) -> None:
    assert chosen(f"https://{host}:6443", **BOTH) is None


@pytest.mark.parametrize("host", ["localhost.example.com", "128.0.0.1", "[::2]", "127.1"])
def test_what_only_looks_like_loopback_is(host: str) -> None:
    assert chosen(f"https://{host}:6443", **BOTH) == "http://secure:1"


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("example.com", "example.com", True),
        ("example.com", "api.example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil", False),
        (".example.com", "api.example.com", True),
        (".example.com", "example.com", False),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "example.com", False),
        ("EXAMPLE.com", "api.Example.COM", True),
        ("other, example.com ,,more", "api.example.com", True),
        ("*", "anything", True),
        ("other,*", "anything", True),
        ("", "example.com", False),
        (" , .", "example.com", False),
        ("bücher.example", "api.xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "bücher.example", True),
    ],
)
def test_no_proxy_names_hosts(no_proxy: str, host: str, direct: bool) -> None:
    assert goes_direct(f"https://{host}", no_proxy) is direct


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("10.0.0.0/8", "10.200.0.1", True),
        ("10.1.2.3/8", "10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "10.example.com", False),
        ("10.0.0.0/8", "[::ffff:10.0.0.1]", True),
        ("10.0.0.0/8", "[fd00::1]", False),
        ("fd00::/8", "[fd12::1]", True),
        ("fd00::1", "[fd00:0:0::1]", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("0.0.1", "10.0.0.1", False),
        (".1", "10.0.0.1", False),
        ("10.0.0.0/99", "10.0.0.1", False),
        ("a/b", "10.0.0.1", False),
    ],
)
def test_no_proxy_names_addresses_and_blocks(no_proxy: str, host: str, direct: bool) -> None:
    assert goes_direct(f"https://{host}", no_proxy) is direct


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("k8s:6443", "https://k8s:6443", True),
        ("k8s:6443", "https://k8s:443", False),
        ("k8s:443", "https://k8s", True),
        ("k8s:443", "wss://k8s/path", True),
        ("k8s:80", "http://k8s", True),
        ("k8s:80", "https://k8s", False),
        (".example.com:6443", "https://api.example.com:6443", True),
        ("*.example.com:6443", "https://api.example.com", False),
        ("10.0.0.1:6443", "https://10.0.0.1:6443", True),
        ("10.0.0.1:6443", "https://10.0.0.1", False),
        ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
        ("[fd00::1]:6443", "https://[fd00::1]", False),
        (":6443", "https://k8s:6443", False),
    ],
)
def test_no_proxy_may_name_a_port(no_proxy: str, url: str, direct: bool) -> None:
    assert goes_direct(url, no_proxy) is direct


@pytest.mark.parametrize("url", ["https://h:port", "https://[half", "https://", "ftp://h", "nothing"])
def test_what_is_no_address_is_not_for_a_proxy_to_refuse(url: str) -> None:
    assert chosen(url, **BOTH) is None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("proxy", "http://proxy:80"),
        ("https://Proxy.Example.com", "https://proxy.example.com:443"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        (" http://proxy:3128 ", "http://proxy:3128"),
    ],
)
def test_a_proxy_s_address(text: str, url: str) -> None:
    assert parse_proxy(text, "HTTPS_PROXY") == Proxy(url, "HTTPS_PROXY")


@pytest.mark.parametrize("prefix", ["http://", ""])
def test_a_login_is_kept_apart_and_decoded(prefix: str) -> None:
    proxy = parse_proxy(f"{prefix}me:hunter%3A2%40@proxy:3128", "HTTPS_PROXY")
    assert proxy.url == "http://proxy:3128"
    assert (proxy.user, proxy.password) == (Secret("me"), Secret("hunter:2@"))
    for shown in (str(proxy), repr(proxy)):
        assert all(secret not in shown for secret in ("hunter", "me:"))
    assert str(proxy) == "the proxy http://proxy:3128 (HTTPS_PROXY)"


@pytest.mark.parametrize(
    "text",
    [
        "socks5://me:hunter2@proxy:1080",
        "http://me:hunter2@",
        "http://me:hunter2@proxy:99999",
        "http://me:12/hunter2@proxy:3128",
        "http://me:12#hunter2@proxy:3128",
        "http://me:12?hunter2@proxy:3128",
        "http://me:hunter2@proxy 3128",
        "http://me%3Ayou:hunter2@proxy:3128",
        "http://[me:hunter2@proxy",
        "//me:hunter2",
        "http://",
    ],
)
def test_an_invalid_proxy_is_reported_without_its_value(text: str) -> None:
    with pytest.raises(ProxyError, match=r"^HTTPS_PROXY must be the address of an HTTP proxy") as caught:
        proxy_for("https://k8s", {"HTTPS_PROXY": text})
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_proxy_that_is_not_used_is_not_read() -> None:
    assert chosen("https://localhost", HTTPS_PROXY="socks5://proxy") is None


@given(st.text(), st.text(), st.text())
def test_any_proxy_variables_give_a_decision_or_an_error(host: str, proxy: str, no_proxy: str) -> None:
    with contextlib.suppress(ProxyError):
        proxy_for(f"https://{host}", {"HTTPS_PROXY": proxy, "NO_PROXY": no_proxy})


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "SOCKS5", "socks"])
def test_k14_a_socks_proxy_is_refused_by_its_name(scheme: str) -> None:
    with pytest.raises(ProxyError, match=r"^ALL must .* it names a SOCKS proxy, .*`ssh -L`$") as caught:
        parse_proxy(f"{scheme}://me:hunter2@proxy:1080", "ALL")
    assert "hunter2" not in str(caught.value)


def test_k14_a_host_named_socks_is_a_host() -> None:
    assert parse_proxy("http://socks5:1080", "ALL").url == "http://socks5:1080"
    with pytest.raises(ProxyError, match="such as http://proxy"):
        parse_proxy("socks5://", "ALL")
