"""Which control plane a worker has."""

import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.worker.config.load import DEFAULT_SERVER_ROOT_URL, DEFAULT_WEB_SOCKET_URL
from oz_agent_worker.worker.peer import ControlPlanePeer

NONE: frozenset[Capability] = frozenset()


@pytest.mark.parametrize(
    ("urls", "public"),
    [
        ((DEFAULT_WEB_SOCKET_URL, DEFAULT_SERVER_ROOT_URL), DEFAULT_WEB_SOCKET_URL),
        (("ws://127.0.0.1:8080/ws", DEFAULT_SERVER_ROOT_URL), DEFAULT_SERVER_ROOT_URL),
        (("wss://Staging.Warp.Dev:443/ws", "https://oz.test"), "wss://Staging.Warp.Dev:443/ws"),
        (("https://warp.dev",), "https://warp.dev"),
        (("wss://oz.test/ws", "http://[::1]:8080"), None),
        (("https://notwarp.dev", "https://warp.dev.test", "https://oz.test/app.warp.dev", "warp.dev"), None),
        ((), None),
    ],
)
def test_the_public_service_is_known_by_its_domain(urls: tuple[str, ...], public: str | None) -> None:
    assert ControlPlanePeer(*urls).public_url == public


def test_a_peer_without_capabilities_is_refused_where_tasks_need_more() -> None:
    peer = ControlPlanePeer("https://oz.test")
    peer.check(NONE)
    peer.require_extensions("why")
    peer.check(frozenset({Capability.HELLO}))
    with pytest.raises(PreflightError, match=r"^why$"):
        peer.check(NONE)
