"""Addresses and base64, as kubeconfigs have them."""

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError, ExitCode
from oz_agent_worker.worker.backends.kubernetes.api.identity import (
    ClusterUser,
    CredentialsError,
    Pem,
    decode_base64,
    endpoint_url,
)


@pytest.mark.parametrize(("url", "checked"), [
    ("https://h", "https://h"),
    ("https://h:6443/", "https://h:6443"),
    ("https://[fd00::1]:443", "https://[fd00::1]:443"),
    ("http://127.0.0.1:8001/k8s/clusters/c-1/", "http://127.0.0.1:8001/k8s/clusters/c-1"),
])  # fmt: skip
def test_an_address(url: str, checked: str) -> None:
    assert endpoint_url(url, "server") == checked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6443/path",
        "ftp://h",
        "https://",
        "https://h:0",
        "https://h:70000",
        "https://h/a b",
        "https://[",
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(CredentialsError, match="server must be an address such as https://host:6443"):
        endpoint_url(url, "server")


@pytest.mark.parametrize("url", ["h:6443", "h", "10.0.0.1:443", "[fd00::1]", "my_host.example:1"])
def test_k14_an_address_without_a_scheme(url: str) -> None:
    with pytest.raises(CredentialsError, match="has no scheme") as caught:
        endpoint_url(url, "server")
    assert str(caught.value).endswith(f"; write https://{url}")


def test_an_address_has_no_user() -> None:
    with pytest.raises(CredentialsError, match="server holds a user name"):
        endpoint_url("https://me:pw@h", "server")


def test_base64() -> None:
    assert decode_base64(Secret("aGVs\n bG8="), "x") == Secret("hello")
    with pytest.raises(CredentialsError, match="x is not valid base64") as caught:
        decode_base64(Secret("hunter2"), "x")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_reprs_are_safe_and_errors_are_configuration_errors() -> None:
    key = Pem("key", data=Secret("hunter2"))
    user = ClusterUser(token=Secret("hunter2"), password=Secret("hunter2"), certificate=(key, key))
    assert "hunter2" not in repr(user)
    assert issubclass(CredentialsError, ConfigError)
    assert CredentialsError.exit_code is ExitCode.USAGE
