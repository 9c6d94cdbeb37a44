import json
from pathlib import Path
from typing import Any

from tests.cluster.audit import AuditLog


def event(identity: str, stage: str, **fields: Any) -> bytes:
    """A line as kube-apiserver writes it, cut to what matters."""
    content = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": identity,
        "stage": stage,
        "requestURI": "/apis/batch/v1/namespaces/n/jobs?watch=true",
        "verb": "watch",
        "user": {"username": "worker", "groups": ["system:authenticated"]},
        "sourceIPs": ["127.0.0.1"],
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000006Z",
        **fields,
    }
    return json.dumps(content).encode() + b"\n"


def test_a_long_request_is_one_entry_with_its_last_stage(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    log.refresh()
    path.write_bytes(event("1", "ResponseStarted") + event("2", "ResponseComplete"))
    log.refresh()
    assert [(entry.id, entry.stage) for entry in log.entries()] == [
        ("1", "ResponseStarted"),
        ("2", "ResponseComplete"),
    ]
    with path.open("ab") as file:
        file.write(event("1", "ResponseComplete"))
    log.refresh()
    assert [(entry.id, entry.stage) for entry in log.entries()] == [
        ("1", "ResponseComplete"),
        ("2", "ResponseComplete"),
    ]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    reference = {"resource": "pods", "namespace": "n", "name": "p", "subresource": "log"}
    line = event("1", "ResponseComplete", verb="get", objectRef=reference, responseStatus={"code": 200})
    log = AuditLog(path)
    path.write_bytes(line[:50])
    log.refresh()
    assert list(log.entries()) == []
    path.write_bytes(line)
    log.refresh()
    (entry,) = log.entries()
    assert (entry.resource, entry.subresource, entry.namespace, entry.name) == ("pods", "log", "n", "p")
    assert (entry.code, entry.user) == (200, "worker")
