"""One row a situation: what the cluster holds, and the beginning of the answer."""

from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.inspection.explain import TaskSnapshot, explain
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import State
from tests.unit.worker.backends.kubernetes.samples import running, terminated, waiting
from tests.unit.worker.backends.kubernetes.tasks import (
    CREATED,
    JOB_UID,
    LATER,
    event,
    facts,
    task_job,
    task_pod,
)

COMPLETE = {"type": "Complete", "status": "True"}
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}
CREATING = waiting("task", "ContainerCreating")
NO_POD_YET: dict[str, Any] = {"active": None}


def unscheduled() -> Any:
    return task_pod("Pending", node=None, conditions=[NO_NODE])


ROWS = {
    "succeeded": (
        facts(task_job(COMPLETE), task_pod("Succeeded", containerStatuses=[terminated("task", 0)])),
        (State.SUCCEEDED, ""),
        "succeeded 5m ago on node node-1.",
    ),
    "succeeded, its Pod gone": (facts(task_job(COMPLETE)), (State.SUCCEEDED, ""), "succeeded 5m ago."),
    "succeeded on a node that is not known": (
        facts(task_job(COMPLETE), task_pod("Succeeded", node=None)),
        (State.SUCCEEDED, ""),
        "succeeded 5m ago.",
    ),
    "out of memory": (
        facts(
            task_job(FAILED),
            task_pod("Failed", containerStatuses=[terminated("task", 137, reason="OOMKilled")]),
        ),
        (State.FAILED, "container_oom"),
        "failed 5m ago (container_oom): Container `task` was killed because it used more memory than",
    ),
    "failed, its Pod gone": (
        facts(task_job(FAILED)),
        (State.FAILED, "pod_missing"),
        "failed 5m ago (pod_missing): ",
    ),
    "preempted, its Pod gone": (
        facts(task_job(FAILED), events=(event("Preempted", "by pod p", kind="Normal"),)),
        (State.FAILED, "pod_preempted"),
        "failed 5m ago (pod_preempted): The Pod was preempted: a Pod of a higher priority took its place",
    ),
    "runs": (
        facts(task_job(), task_pod("Running", containerStatuses=[running("task")])),
        (State.RUNNING, ""),
        "runs for 12h on node node-1, in Pod oz-task-run-1-abcde.",
    ),
    "runs, later than the container beside it": (
        facts(
            task_job(),
            task_pod(
                "Running",
                containerStatuses=[
                    running("proxy"),
                    {"name": "task", "state": {"running": {"startedAt": LATER}}},
                ],
            ),
        ),
        (State.RUNNING, ""),
        "runs for 5m on node node-1, in Pod oz-task-run-1-abcde.",
    ),
    "runs on a node that is silent": (
        facts(
            task_job(),
            task_pod(
                "Running",
                metadata={"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 30},
                containerStatuses=[running("task")],
            ),
        ),
        (State.RUNNING, "node_lost"),
        "runs, but its node node-1 does not say what became of its Pod.",
    ),
    "runs on a node that is silent and has no name": (
        facts(task_job(), task_pod("Unknown", node=None)),
        (State.RUNNING, "node_lost"),
        "runs, but its node does not say what became of its Pod.",
    ),
    "a Pod that is being deleted": (
        facts(
            task_job(),
            task_pod(
                "Running",
                metadata={"deletionTimestamp": "2026-01-01T12:10:20Z", "deletionGracePeriodSeconds": 30},
                containerStatuses=[running("task")],
            ),
        ),
        (State.RUNNING, ""),
        "runs, but its Pod is being deleted, and has 20s left to end.",
    ),
    "no Pod yet": (
        facts(task_job(status=NO_POD_YET)),
        (State.PENDING, ""),
        "waits: its Job has no Pod yet.",
    ),
    "no room in the quota": (
        facts(
            task_job(status=NO_POD_YET),
            events=(
                event(
                    "FailedCreate", 'Error creating: pods "x" is forbidden: exceeded quota: q', about=JOB_UID
                ),
            ),
        ),
        (State.PENDING, "pod_missing"),
        "waits: the Job has no Pod, because there is no room for it in the namespace's quota",
    ),
    "a webhook that does not answer": (
        facts(
            task_job(status=NO_POD_YET),
            events=(
                event("FailedCreate", "Error creating: failed calling webhook: timed out", about=JOB_UID),
            ),
        ),
        (State.PENDING, "pod_missing"),
        "waits: its Job has no Pod yet (FailedCreate: failed calling webhook: timed out).",
    ),
    "suspended": (
        facts(task_job({"type": "Suspended", "status": "True", "reason": "JobSuspended"}, status=NO_POD_YET)),
        (State.PENDING, ""),
        "is held back: its Job is suspended (JobSuspended).",
    ),
    "not looked at by a scheduler": (
        facts(task_job(), task_pod("Pending", node=None)),
        (State.PENDING, ""),
        "waits: its Pod oz-task-run-1-abcde has no node yet.",
    ),
    "no node": (
        facts(task_job(), unscheduled()),
        (State.PENDING, "unschedulable"),
        "waits: no node takes its Pod (0/3 nodes are available: 3 Insufficient cpu).",
    ),
    "no node, and patience without end": (
        facts(task_job(), unscheduled(), unschedulable_timeout=0.0),
        (State.PENDING, "unschedulable"),
        "waits: no node takes its Pod (0/3 nodes are available: 3 Insufficient cpu).",
    ),
    "a node comes": (
        facts(task_job(), unscheduled(), events=(event("TriggeredScaleUp", "a 1->2", kind="Normal"),)),
        (State.PENDING, "unschedulable"),
        "waits: no node takes its Pod (0/3 nodes are available: 3 Insufficient cpu), and the autoscaler adds"
        " one (TriggeredScaleUp: a 1->2).",
    ),
    "no node comes": (
        facts(task_job(), unscheduled(), events=(event("NotTriggerScaleUp", "1 max size reached"),)),
        (State.PENDING, "unschedulable"),
        "waits: no node takes its Pod (0/3 nodes are available: 3 Insufficient cpu), and the autoscaler adds"
        " none (NotTriggerScaleUp: 1 max size reached).",
    ),
    "an image that cannot be pulled": (
        facts(
            task_job(),
            task_pod("Pending", containerStatuses=[waiting("task", "ImagePullBackOff", "i/o timeout")]),
        ),
        (State.PENDING, "image_pull"),
        "waits: the image of container `task` cannot be pulled (ImagePullBackOff: i/o timeout)",
    ),
    "an image that is being pulled": (
        facts(
            task_job(),
            task_pod("Pending", containerStatuses=[CREATING]),
            events=(event("Pulling", 'Pulling image "x"', kind="Normal"),),
        ),
        (State.PENDING, ""),
        "waits: an image is being pulled on node node-1: its container `task` is not created yet",
    ),
    "a volume that cannot be mounted": (
        facts(
            task_job(),
            task_pod("Pending", containerStatuses=[CREATING]),
            events=(event("FailedMount", 'secret "x" not found'),),
        ),
        (State.PENDING, "volume_mount"),
        'waits: the Pod\'s volumes cannot be mounted (FailedMount: secret "x" not found)',
    ),
    "starts": (
        facts(task_job(), task_pod("Pending", containerStatuses=[CREATING])),
        (State.PENDING, ""),
        "starts on node node-1: its container `task` is not created yet (ContainerCreating).",
    ),
    "setup runs": (
        facts(
            task_job(),
            task_pod(
                "Pending",
                initContainerStatuses=[terminated("copy-sidecar-0", 0), running("setup")],
                containerStatuses=[waiting("task", "PodInitializing")],
            ),
        ),
        (State.PENDING, ""),
        "starts on node node-1: its init container `setup` runs.",
    ),
    "K10: the task has ended, and a container beside it runs on": (
        facts(
            task_job(),
            task_pod("Running", containerStatuses=[terminated("task", 0), running("proxy")]),
        ),
        (State.ENDING, ""),
        "has succeeded, and its Job has not ended: its container `task` ended with exit code 0; beside it"
        " `proxy` still runs.",
    ),
    "K10: the task has failed, and a container beside it runs on": (
        facts(
            task_job(),
            task_pod("Running", containerStatuses=[terminated("task", 3), running("proxy")]),
        ),
        (State.ENDING, "container_exit"),
        "has failed (container_exit), and its Job has not ended: its container `task` ended with exit code 3",
    ),
    "K10: the task succeeded, and its Job failed": (
        facts(
            task_job(FAILED),
            task_pod("Failed", containerStatuses=[terminated("task", 0), terminated("proxy", 143)]),
        ),
        (State.SUCCEEDED, ""),
        "succeeded 5m ago on node node-1; its Job failed, because another container did.",
    ),
    "K6: announced, and never declared": (
        facts(
            task_job({"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}),
            task_pod("Succeeded", containerStatuses=[terminated("task", 0)]),
        ),
        (State.ENDING, ""),
        "has succeeded, and its Job has not ended: it has announced its end, and no Pod of it runs"
        " (SuccessCriteriaMet (CompletionsReached)).",
    ),
    "K6: the Job controller does not run": (
        facts(task_job(), task_pod("Failed", containerStatuses=[terminated("task", 3)])),
        (State.ENDING, "container_exit"),
        "has failed (container_exit), and its Job has not ended: its Pod oz-task-run-1-abcde has ended"
        " (Failed), and the Job controller has not taken note.",
    ),
    "its Job is about to fail, and its Pod has its grace period": (
        facts(
            task_job({"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}),
            task_pod("Running", containerStatuses=[running("task")]),
        ),
        (State.RUNNING, ""),
        "runs for 12h on node node-1, in Pod oz-task-run-1-abcde; its Job is about to end"
        " (DeadlineExceeded).",
    ),
    "K9: a second Pod": (
        facts(
            task_job(),
            task_pod("Running", metadata={"uid": "uid-0"}, containerStatuses=[running("task")]),
            task_pod(
                "Running",
                metadata={"creationTimestamp": LATER, "name": "second"},
                containerStatuses=[running("task")],
            ),
        ),
        (State.RUNNING, "pod_replaced"),
        "runs, but the Job controller made another Pod, second, though the task may be started once only",
    ),
    "K9: a second Pod, and both have ended": (
        facts(
            task_job(COMPLETE),
            task_pod("Failed", metadata={"uid": "uid-0"}, containerStatuses=[terminated("task", 1)]),
            task_pod(
                "Succeeded", metadata={"creationTimestamp": LATER}, containerStatuses=[terminated("task", 0)]
            ),
        ),
        (State.FAILED, "pod_replaced"),
        "failed 5m ago (pod_replaced): The Job controller made another Pod",
    ),
    "evicted, and started again soon": (
        facts(task_job(retries=1), task_pod("Failed", reason="Evicted", message="The node was low")),
        (State.PENDING, ""),
        "waits: its Pod oz-task-run-1-abcde failed (Evicted: The node was low), and its Job starts another.",
    ),
    "suspended while it runs": (
        facts(
            task_job({"type": "Suspended", "status": "True", "reason": "JobSuspended"}),
            task_pod("Running", containerStatuses=[running("task")]),
        ),
        (State.RUNNING, ""),
        "runs, but its Job is suspended (JobSuspended).",
    ),
    "ended by a deletion, beside a container that still runs": (
        facts(
            task_job(),
            task_pod(
                "Running",
                metadata={"deletionTimestamp": "2026-01-01T12:10:20Z", "deletionGracePeriodSeconds": 30},
                containerStatuses=[terminated("task", 143), running("proxy")],
            ),
        ),
        (State.ENDING, ""),
        "ends: its Pod is being deleted, and has 20s left to end.",
    ),
    "a container that nobody saw end": (
        facts(
            task_job(),
            task_pod("Running", containerStatuses=[terminated("task", 137, reason="ContainerStatusUnknown")]),
        ),
        (State.ENDING, ""),
        "is being ended.",
    ),
    "cancelled": (
        facts(
            task_job(deletionTimestamp=LATER),
            task_pod("Running", containerStatuses=[running("task")]),
        ),
        (State.ENDING, ""),
        "is being ended: its Job was deleted 5m ago, and its Pod oz-task-run-1-abcde has its grace period",
    ),
}


@pytest.mark.parametrize(("known", "state", "says"), ROWS.values(), ids=ROWS)
def test_one_causal_answer(known: TaskSnapshot, state: tuple[State, str], says: str) -> None:
    answer = explain(known)
    assert answer.headline.startswith(f"Task run-1 {says}")
    assert answer.headline.endswith(".")
    assert (answer.state, answer.reason) == state
    assert (answer.worker, answer.namespace, answer.execution_id) == ("w1", "agents", "exec-1")
    assert answer.evidence[0].about == "Job oz-task-run-1-exec-exec-1"
    assert answer.evidence[0].at == CREATED


@pytest.mark.parametrize(
    ("known", "advice", "outlook"),
    [
        (ROWS["no node"][0], "add capacity", "the worker fails the task when this has lasted 30 s"),
        (
            facts(task_job(), unscheduled(), unschedulable_timeout=1.0),
            "add capacity",
            "the worker fails the task when this has lasted 1 s",
        ),
        (ROWS["no node, and patience without end"][0], "add capacity", "unschedulable_timeout is 0"),
        (ROWS["a node comes"][0], "wait for the node", "when this has lasted 600 s"),
        (ROWS["no node comes"][0], "enlarge the group", "the worker fails the task at once"),
        (ROWS["an image that cannot be pulled"][0], "", "when this has lasted 60 s"),
        (ROWS["an image that is being pulled"][0], "", ""),
        (ROWS["suspended"][0], "a queue such as Kueue", ""),
        (
            ROWS["K10: the task has ended, and a container beside it runs on"][0],
            "a native sidecar",
            "the worker reports the end when this has lasted 30 s, and then deletes the Job",
        ),
        (ROWS["K6: the Job controller does not run"][0], "kube-controller-manager", "lasted 120 s"),
        (ROWS["K6: announced, and never declared"][0], "job-tracking", "lasted 30 s"),
        (ROWS["K9: a second Pod"][0], "", "the worker fails the task at once"),
    ],
)
def test_what_to_do_and_how_long_the_worker_looks_on(known: TaskSnapshot, advice: str, outlook: str) -> None:
    answer = explain(known)
    assert advice in answer.advice
    assert outlook in answer.outlook
    assert bool(answer.outlook) is bool(outlook)


def test_the_last_pod_of_a_task_that_was_started_again_counts() -> None:
    first = task_pod("Failed", reason="Evicted", metadata={"uid": "uid-0", "name": "first"})
    second = task_pod("Running", metadata={"creationTimestamp": LATER}, containerStatuses=[running("task")])
    answer = explain(facts(task_job(retries=1), first, second))
    assert answer.state is State.RUNNING
    assert "in Pod oz-task-run-1-abcde" in answer.headline
    assert [e.about for e in answer.evidence if e.about.startswith("Pod")] == [
        "Pod first",
        "Pod oz-task-run-1-abcde",
    ]


def test_that_events_cannot_be_read_is_part_of_the_evidence() -> None:
    known = TaskSnapshot(
        job=task_job(), pods=(), events=(), now=facts(task_job()).now, policy=facts(task_job()).policy,
        unread="could not be read: 403",
    )  # fmt: skip
    assert explain(known).evidence[-1].text == "could not be read: 403"
