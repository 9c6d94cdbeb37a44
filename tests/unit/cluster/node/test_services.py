"""How a Service's address and name lead to its endpoint."""

import struct
from typing import Any

from tests.cluster.node.dns import answer_to
from tests.cluster.node.services import Target, endpoint_of, wanted_ports

SERVICES = {
    "items": [
        {
            "metadata": {"namespace": "oz", "name": "plane"},
            "spec": {"clusterIP": "10.96.3.4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]},
        },
        {
            "metadata": {"namespace": "default", "name": "kubernetes"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}, {"port": 53, "protocol": "UDP"}]},
        },
        {"metadata": {"namespace": "oz", "name": "headless"}, "spec": {"clusterIP": "None", "ports": []}},
        {"metadata": {"namespace": "oz", "name": "external"}, "spec": {"externalName": "example.org"}},
    ]
}

A, AAAA = 1, 28
ADDRESSES = {"plane.oz.svc.cluster.local": "10.96.3.4"}


def slices(*endpoints: Any) -> Any:
    return {"items": [{"ports": [{"name": "http", "port": 9}], "endpoints": list(endpoints)}]}


def query(name: str, kind: int = A, flags: int = 0x0100) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 7, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def test_each_tcp_port_of_an_address_is_wanted() -> None:
    api = Target("default", "kubernetes", None)
    assert wanted_ports(SERVICES) == {
        ("10.96.3.4", 8080): Target("oz", "plane", "http"),
        ("10.96.0.1", 443): api,
    }
    assert api.is_api_server


def test_an_endpoint_must_be_ready_and_have_the_port() -> None:
    away = {"addresses": ["100.64.0.2"], "conditions": {"ready": False}}
    ready = {"addresses": ["100.64.0.3"], "conditions": {"ready": True}}
    assert endpoint_of(slices(away, ready), "http") == ("100.64.0.3", 9)
    assert endpoint_of(slices(away), "http") is None
    assert endpoint_of(slices(ready), "metrics") is None
    assert endpoint_of({"items": [{"ports": None, "endpoints": None}]}, None) is None


def test_a_known_name_has_its_address_and_nothing_else() -> None:
    asked = query("Plane.oz.svc.cluster.local")
    answer = answer_to(asked, ADDRESSES.get)
    assert answer is not None
    assert struct.unpack_from("!6H", answer) == (7, 0x8580, 1, 1, 0, 0)
    assert answer[12:].startswith(asked[12:])
    assert answer.endswith(bytes([0, 4, 10, 96, 3, 4]))
    other = answer_to(query("plane.oz.svc.cluster.local", AAAA), ADDRESSES.get)
    assert other is not None
    assert struct.unpack_from("!6H", other) == (7, 0x8580, 1, 0, 0, 0)


def test_an_unknown_name_is_answered_with_nxdomain() -> None:
    answer = answer_to(query("nobody.example", flags=0), ADDRESSES.get)
    assert answer is not None
    assert struct.unpack_from("!6H", answer) == (7, 0x8483, 1, 0, 0, 0)


def test_what_is_no_query_gets_no_answer() -> None:
    assert answer_to(b"", ADDRESSES.get) is None
    assert answer_to(query("cut.off")[:16], ADDRESSES.get) is None
    assert answer_to(query("an.answer", flags=0x8180), ADDRESSES.get) is None
