"""Views decode whatever an API server sends, and keep only what is observed."""

from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.manifest import naming
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, JobView, PodView, Terminated

POD = b"""{
  "apiVersion": "v1", "kind": "Pod",
  "metadata": {"name": "p", "namespace": "agents", "uid": "u", "resourceVersion": "7",
    "creationTimestamp": null, "managedFields": [{"manager": "kubelet"}],
    "labels": {"oz-worker-hash": "aa", "job-name": "oz-task-1", "other": "x"},
    "annotations": {"oz.warp.dev/task-id": "t", "oz.warp.dev/execution-id": "e"}},
  "spec": {"nodeName": "n", "containers": [{"name": "task", "env": [{"name": "A", "value": "swordfish"}]}],
    "initContainers": [{"name": "copy-sidecar-0"}, {"name": "proxy", "restartPolicy": "Always"}]},
  "status": {"phase": "Running", "conditions": null, "initContainerStatuses": null,
    "containerStatuses": [{"name": "task", "ready": true, "restartCount": 0, "lastState": {},
                           "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}
}"""


def test_a_pod_keeps_its_observed_fields() -> None:
    pod = msgspec.json.decode(POD, type=PodView)
    assert pod.metadata.key == ExecutionKey("t", "e")
    assert pod.metadata.labels is not None
    assert pod.metadata.labels.job_name == "oz-task-1"
    assert pod.phase == "Running"
    assert pod.native_sidecars() == {"proxy"}
    assert pod.status is not None
    assert pod.status.container_statuses is not None
    assert pod.status.container_statuses[0].waiting is None
    assert "swordfish" not in repr(pod)


def test_the_views_read_the_labels_and_annotations_that_the_manifest_writes() -> None:
    key = ExecutionKey("Task/1", "Exec/1")
    metadata = {"labels": naming.task_labels("w", key), "annotations": naming.task_annotations(key)}
    job = msgspec.convert({"metadata": metadata}, JobView)
    assert job.metadata.key == key
    assert job.metadata.labels is not None
    assert job.metadata.labels.worker_id == "w"
    assert job.metadata.labels.worker_hash == naming.id_hash("w")


@pytest.mark.parametrize("view", [JobView, PodView, EventView])
@pytest.mark.parametrize("text", [b"{}", b'{"metadata":{}}', b'{"metadata":{"labels":null},"status":null}'])
def test_missing_and_null_fields_never_fail(view: type[JobView], text: bytes) -> None:
    assert msgspec.json.decode(text, type=view).metadata.key is None


def test_half_an_annotation_is_no_key() -> None:
    text = b'{"metadata":{"annotations":{"oz.warp.dev/task-id":"t"}}}'
    assert msgspec.json.decode(text, type=JobView).metadata.key is None


def test_a_condition_holds_only_where_its_status_is_true() -> None:
    text = (
        b'{"status":{"conditions":[{"type":"Failed","status":"False"},{"type":"Complete","status":"True"}]}}'
    )
    job = msgspec.json.decode(text, type=JobView)
    assert job.condition("Failed") is None
    assert job.condition("Complete") is not None


def test_texts_that_every_pod_repeats_are_one_string() -> None:
    first, second = (msgspec.json.decode(POD, type=PodView) for _ in range(2))
    assert first.phase is second.phase
    assert first.spec is not None
    assert second.spec is not None
    assert first.spec.node_name is second.spec.node_name


def test_jobs_of_one_process_share_what_they_say_of_it() -> None:
    text = (
        b'{"metadata":{"namespace":"a-1","labels":{"oz-worker-id":"w-1"},'
        b'"annotations":{"oz.warp.dev/owner":"p-1"}}}'
    )
    first, second = (msgspec.json.decode(text, type=JobView).metadata for _ in range(2))
    assert first.namespace is second.namespace
    assert first.labels is not None
    assert second.labels is not None
    assert first.labels.worker_id is second.labels.worker_id
    assert first.annotations is not None
    assert second.annotations is not None
    assert first.annotations.owner is second.annotations.owner


@pytest.mark.parametrize(("phase", "shared"), [("Pending", True), ("Running", True), ("Succeeded", False)])
def test_a_pod_shares_the_strings_of_its_status_until_it_has_ended(phase: str, shared: bool) -> None:
    status = {
        "phase": phase,
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [{"name": "copy-sidecar-0"}],
    }
    text = msgspec.json.encode({"status": status})
    pods = [msgspec.json.decode(text, type=PodView) for _ in range(2)]
    conditions = [pod.status.conditions[0] for pod in pods if pod.status and pod.status.conditions]
    containers = [
        pod.status.init_container_statuses[0]
        for pod in pods
        if pod.status and pod.status.init_container_statuses
    ]
    assert (conditions[0].type is conditions[1].type) is shared
    assert (containers[0].name is containers[1].name) is shared


def test_a_pod_is_known_by_its_uid_and_without_one_by_its_name() -> None:
    assert msgspec.json.decode(POD, type=PodView).identity == "u"
    assert msgspec.json.decode(b'{"metadata":{"name":"p"}}', type=PodView).identity == "p"


FAILED_POD = b"""{
  "metadata": {"name": "p", "labels": {"job-name": "j", "batch.kubernetes.io/controller-uid": "ju"}},
  "spec": {"nodeName": "n"},
  "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory",
    "conditions": [{"type": "Ready", "status": "False"}],
    "initContainerStatuses": [{"name": "setup"}], "containerStatuses": [{"name": "task"}]}
}"""


def test_a_pod_answers_for_its_spec_and_its_status() -> None:
    pod = msgspec.json.decode(FAILED_POD, type=PodView)
    assert (pod.phase, pod.has_ended) == ("Failed", True)
    assert (pod.reason, pod.message) == ("Evicted", "The node was low on memory")
    assert (pod.node_name, pod.job_name, pod.job_uid) == ("n", "j", "ju")
    assert [c.name for c in pod.all_container_statuses] == ["setup", "task"]
    ready = pod.condition("Ready")
    assert (ready and ready.status, pod.condition("PodScheduled")) == ("False", None)


def test_a_pod_without_spec_and_status_has_nothing_to_say() -> None:
    pod = PodView()
    assert (pod.phase, pod.has_ended, pod.reason, pod.message) == ("", False, None, None)
    assert (pod.node_name, pod.job_name, pod.job_uid) == ("", None, None)
    assert (pod.conditions, pod.all_container_statuses, pod.native_sidecars()) == ((), (), frozenset())


@pytest.mark.parametrize(
    ("state", "waits", "runs", "has_ended", "has_started"),
    [
        ("{}", False, False, False, False),
        ('{"waiting":{}}', True, False, False, False),
        ('{"running":{}}', False, True, False, True),
        ('{"terminated":{}}', False, False, True, True),
        ("null", False, False, False, False),
    ],
)
def test_a_container_waits_runs_or_has_ended(
    state: str, waits: bool, runs: bool, has_ended: bool, has_started: bool
) -> None:
    now = msgspec.json.decode(f'{{"state":{state}}}', type=ContainerStatus)
    assert (now.waiting is not None, now.running is not None) == (waits, runs)
    assert (now.terminated is not None, now.has_started) == (has_ended, has_started)
    assert now.last_terminated is None
    before = msgspec.json.decode(f'{{"lastState":{state}}}', type=ContainerStatus)
    assert (before.last_terminated is not None, before.has_started) == (has_ended, False)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (Terminated(), 0),
        (Terminated(exit_code=3), 3),
        (Terminated(signal=9), 137),
        (Terminated(exit_code=1, signal=9), 1),
    ],
)
def test_a_signal_counts_from_128_as_in_a_shell(ended: Terminated, code: int) -> None:
    assert ended.code == code


@pytest.mark.parametrize(
    ("status", "started"),
    [
        ({}, False),
        ({"state": {"waiting": {}}}, False),
        ({"state": {"running": {}}}, True),
        ({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, True),
        ({"state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}}, False),
        ({"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}}, True),
    ],
)
@pytest.mark.parametrize("group", ["containerStatuses", "initContainerStatuses"])
def test_a_pod_has_started_when_a_container_of_it_was_seen_to_run(
    group: str, status: dict[str, Any], started: bool
) -> None:
    view = msgspec.convert({"status": {group: [{"name": "task", **status}]}}, PodView)
    assert view.has_started is started


def test_the_condition_of_the_first_type_that_holds() -> None:
    conditions = [
        {"type": "Failed", "status": "True"},
        {"type": "FailureTarget", "status": "True"},
        {"type": "Complete", "status": "False"},
    ]
    job = msgspec.convert({"status": {"conditions": conditions}}, JobView)
    found = job.condition("Complete", "FailureTarget", "Failed")
    assert found is not None
    assert found.type == "FailureTarget"
    assert job.condition("Complete") is JobView().condition("Complete") is None
