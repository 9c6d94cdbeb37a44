import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.inspection.bundle import (
    ContainerLog,
    TaskEvidence,
    bundle,
    evidence_files,
)
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogTail
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.tasks import CREATED, LATER, NOW

SECRET = {"name": "TOKEN", "value": "swordfish"}


def log(content: bytes, limit: int = 1000) -> LogTail:
    tail = LogTail(limit)
    tail.feed(content)
    return tail


def evidence(**changes: Any) -> TaskEvidence:
    pod_spec = {"nodeName": "node-1", "containers": [{"name": "task", "env": [SECRET]}]}
    fields: dict[str, Any] = {
        "job": {
            "metadata": {
                "name": "oz-task-1",
                "namespace": "agents",
                "uid": "j",
                "creationTimestamp": CREATED,
                "labels": {"oz-worker-id": "w1"},
                "annotations": {"oz.warp.dev/task-id": "run-1", "oz.warp.dev/execution-id": "exec-1"},
            },
            "spec": {"template": {"spec": pod_spec}},
            "status": {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": LATER}]},
        },
        "pods": [
            {
                "metadata": {"name": "p", "uid": "u", "creationTimestamp": CREATED},
                "spec": pod_spec,
                "status": {
                    "phase": "Failed",
                    "containerStatuses": [
                        {"name": "task", "state": {"terminated": {"exitCode": 3, "message": "swordfish"}}}
                    ],
                },
            }
        ],
        "events": [{"reason": "Killing", "message": "swordfish", "involvedObject": {"uid": "u"}}],
        "logs": [ContainerLog("p", "task", log(b"T1 the key is swordfish\n"))],
        "problems": [],
        "now": NOW,
        "policy": ObservationPolicy(),
        **changes,
    }
    return TaskEvidence(**fields)


def test_a_bundle_holds_the_answer_the_objects_and_the_logs() -> None:
    files = dict(evidence_files(evidence()))
    assert list(files) == [
        "explanation.txt",
        "explanation.json",
        "job.json",
        "events.json",
        "pods/p.json",
        "logs/p/task.log",
    ]
    assert files["explanation.txt"].startswith(b"Task run-1 failed 5m ago (container_exit)")
    assert json.loads(files["explanation.json"])["reason"] == "container_exit"
    assert json.loads(files["pods/p.json"])["spec"]["nodeName"] == "node-1"
    assert files["logs/p/task.log"] == b"T1 the key is ***\n"
    assert b"swordfish" not in b"".join(files.values())


def test_a_cut_log_says_so_and_so_does_what_was_not_read() -> None:
    cut = evidence(
        logs=[ContainerLog("p", "task", log(b"0123456789", limit=4))], problems=["events: forbidden"]
    )
    files = dict(evidence_files(cut))
    assert files["logs/p/task.log"] == b"[oz-agent-worker: 6 bytes of the log are left out here]\n6789"
    assert files["not-read.txt"] == b"events: forbidden\n"


def test_what_the_worker_reports_is_kept_with_it() -> None:
    files = dict(evidence_files(evidence(outcome=failed(FailureReason.IMAGE_PULL, "no such image"))))
    written = json.loads(files["outcome.json"])
    assert (written["result"], written["reason"], written["message"]) == (
        "failed",
        "image_pull",
        "no such image",
    )


def test_the_tasks_own_text_is_part_of_what_was_reported() -> None:
    outcome = failed(
        FailureReason.CONTAINER_EXIT, "it ended", task_text=TaskText("the key swordfish is wrong")
    )
    files = dict(evidence_files(evidence(outcome=outcome)))
    assert json.loads(files["outcome.json"])["words"] == "the key *** is wrong"


def test_a_log_whose_end_could_not_be_read_says_so_at_its_end() -> None:
    cut = log(b"no end of line")
    cut.unread = "swordfish is gone"
    files = dict(evidence_files(evidence(logs=[ContainerLog("p", "task", cut)])))
    note = b"[oz-agent-worker: the log was read so far, and its end could not be: *** is gone]"
    assert files["logs/p/task.log"] == b"no end of line\n" + note + b"\n"


def test_the_same_evidence_is_the_same_file() -> None:
    one = bundle("oz-task-1", evidence_files(evidence()), NOW)
    assert one == bundle("oz-task-1", evidence_files(evidence()), NOW)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(one))) as archive:
        entries = archive.getmembers()
    names = [entry.name for entry in entries]
    assert names == sorted(names)
    assert all(name.startswith("oz-task-1/") for name in names)
    assert {(e.mode, e.uid, e.gid, e.mtime) for e in entries} == {(0o600, 0, 0, int(NOW.timestamp()))}


@pytest.mark.parametrize("missing", ["pods", "events", "logs"])
def test_whatever_is_missing_the_rest_is_kept(missing: str) -> None:
    assert "job.json" in dict(evidence_files(evidence(**{missing: []})))
