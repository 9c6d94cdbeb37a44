import pytest

from oz_agent_worker.controlplane.settings import (
    ControlPlaneSettings,
    default_database_url,
    describe_exposure,
    is_loopback,
    url_of,
)


def test_listens_only_on_loopback_by_default() -> None:
    settings = ControlPlaneSettings()
    assert is_loopback(settings.host)
    assert "only programs on this machine" in describe_exposure(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_exposure_names_the_danger(host: str) -> None:
    text = describe_exposure(ControlPlaneSettings(host=host))
    assert "anyone who can reach it and has a key" in text
    assert "TLS proxy" in text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_url(host: str, url: str) -> None:
    assert url_of(host, 80) == url


def test_the_database_is_in_the_state_directory() -> None:
    assert default_database_url({"XDG_STATE_HOME": "/s"}) == "sqlite:////s/oz-agent-worker/control-plane.db"
