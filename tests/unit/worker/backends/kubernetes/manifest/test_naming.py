"""Names and labels: always valid, whatever the IDs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.manifest import naming

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

IDS = st.one_of(st.text(min_size=1, max_size=100), st.text(alphabet="-_./é漢Aa0", min_size=1, max_size=100))


@pytest.mark.parametrize(
    ("task_id", "execution_id", "name"),
    [
        ("run-1", "exec-12345678", "oz-task-run-1-exec-12345678"),
        ("Run_1/x", "short", "oz-task-run-1-x-exec-short"),
        ("abc", "abc", "oz-task-abc-exec-abc"),
        ("r" * 80, "0123456789", "oz-task-" + "r" * 41 + "-exec-23456789"),
        ("run", "abcd1234----", "oz-task-run-exec-1234"),
        (
            "0195c3f0-7f6e-7c1a-9b1e-1c2d3e4f5a6b",
            "0195c3f0-8a2b-7d3c-8e4f-a1b2c3d4e5f6",
            "oz-task-0195c3f0-7f6e-7c1a-9b1e-1c2d3e4f5a6b-exec-c3d4e5f6",
        ),
    ],
)
def test_job_name(task_id: str, execution_id: str, name: str) -> None:
    assert naming.job_name(ExecutionKey(task_id, execution_id)) == name


def test_ids_without_a_readable_character_differ_by_their_hashes() -> None:
    names = {naming.job_name(ExecutionKey(t, e)) for t in ("é", "漢") for e in ("漢" * 12, "é" * 12)}
    assert len(names) == 4


@given(IDS, IDS)
def test_a_job_name_is_always_a_dns_label(task_id: str, execution_id: str) -> None:
    assert DNS_LABEL.fullmatch(naming.job_name(ExecutionKey(task_id, execution_id)))


@given(IDS, IDS, IDS)
def test_labels_are_always_valid_and_the_same_again(worker: str, task_id: str, execution_id: str) -> None:
    labels = naming.task_labels(worker, ExecutionKey(task_id, execution_id))
    assert all(LABEL_VALUE.fullmatch(value) for value in labels.values())
    assert labels == naming.task_labels(worker, ExecutionKey(task_id, execution_id))


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("My.Worker_1", "my.worker_1"),
        ("--a/b--", "a-b"),
        ("...", "unknown"),
        ("", "unknown"),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_label_safe(value: str, safe: str) -> None:
    assert naming.label_safe(value) == safe


def test_a_hash_is_eight_bytes_of_sha256_in_hex() -> None:
    # `printf %s my-worker | sha256sum | cut -c-16`
    assert naming.id_hash("my-worker") == "71f145479816ff1c"
    assert naming.label_selector("my-worker") == "oz-worker-hash=71f145479816ff1c"


def test_ids_that_look_alike_have_different_hashes() -> None:
    one, other = (naming.task_labels("w", ExecutionKey(t, "e")) for t in ("A/b", "a-b"))
    assert one[naming.LABEL_TASK_ID] == other[naming.LABEL_TASK_ID]
    assert one[naming.LABEL_TASK_HASH] != other[naming.LABEL_TASK_HASH]


def test_the_annotations_keep_the_raw_ids() -> None:
    assert naming.task_annotations(ExecutionKey("A/é", "x y")) == {
        "oz.warp.dev/task-id": "A/é",
        "oz.warp.dev/execution-id": "x y",
    }


def test_preflight_job_name() -> None:
    name = naming.preflight_job_name("my-worker", "x7f3q")
    assert name == f"oz-preflight-{naming.id_hash('my-worker')}-x7f3q"
    assert DNS_LABEL.fullmatch(name)
