"""Why a Job failed: the outcome table, row by row."""

from collections.abc import Callable
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, failed
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView
from oz_agent_worker.worker.backends.kubernetes.status.failure import (
    events_of_last_pod,
    explain_failure,
    gone_pods,
    is_unexplained,
    pods_of_job,
)
from tests.unit.worker.backends.kubernetes.samples import event, pod, running, terminated, waiting

LIMIT = Condition(type="Failed", status="True", reason="BackoffLimitExceeded", message="it failed")
DEADLINE = Condition(
    type="Failed",
    status="True",
    reason="DeadlineExceeded",
    message="Job was active longer than specified deadline",
)


def explain(*pods: PodView, condition: Condition = LIMIT) -> Outcome:
    outcome = explain_failure(condition, pods)
    assert outcome.result is TaskResult.FAILED
    assert "\n" not in outcome.message
    return outcome


def ended(*containers: dict[str, Any], **status: Any) -> PodView:
    return pod(phase="Failed", containerStatuses=list(containers), **status)


OOM = terminated("task", 137, reason="OOMKilled")
PREEMPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "for p",
}
GONE = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
NATIVE = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "warm"}]}


@pytest.mark.parametrize(
    ("view", "reason", "exit_code"),
    [
        (ended(terminated("task", 1)), FailureReason.CONTAINER_EXIT, 1),
        (ended(terminated("task", 143)), FailureReason.CONTAINER_EXIT, 143),
        (ended(terminated("task", 0, signal=9)), FailureReason.CONTAINER_EXIT, 137),
        (ended(OOM), FailureReason.CONTAINER_OOM, 137),
        (ended(reason="Evicted", message="The node was low on memory"), FailureReason.EVICTED, None),
        (ended(terminated("task", 137), reason="NodeShutdown"), FailureReason.NODE_LOST, None),
        (ended(terminated("task", 143), conditions=[PREEMPTED]), FailureReason.POD_PREEMPTED, None),
        (ended(terminated("task", 143), metadata=GONE), FailureReason.POD_MISSING, 143),
        (
            ended(terminated("task", 143), metadata=GONE, conditions=[PREEMPTED]),
            FailureReason.POD_PREEMPTED,
            None,
        ),
        (ended(OOM, reason="Evicted"), FailureReason.EVICTED, None),
        (ended(terminated("task", 1), reason="DeadlineExceeded"), FailureReason.ACTIVE_DEADLINE, None),
        (ended(terminated("task", 128, reason="StartError")), FailureReason.CONTAINER_START, None),
        (ended(terminated("helper", 2), running("task")), FailureReason.NODE_LOST, None),
        (ended(terminated("helper", 2), waiting("task", "x")), FailureReason.CONTAINER_EXIT, 2),
        (ended(terminated("helper", 2), terminated("task", 5)), FailureReason.CONTAINER_EXIT, 5),
        (ended(terminated("task", 0), reason="Evicted"), FailureReason.EVICTED, None),
        (ended(reason="UnexpectedAdmissionError", message="no gpu"), FailureReason.JOB_FAILED, None),
        (ended(running("task"), metadata=GONE), FailureReason.NODE_LOST, None),
        (pod(phase="Running", metadata=GONE), FailureReason.POD_MISSING, None),
        (PodView(), FailureReason.JOB_FAILED, None),
    ],
)
def test_the_pod_gives_the_reason(view: PodView, reason: FailureReason, exit_code: int | None) -> None:
    outcome = explain(view)
    assert (outcome.reason, outcome.exit_code) == (reason, exit_code)


@pytest.mark.parametrize(
    ("name", "code", "more", "reason", "exit_code"),
    [
        ("copy-sidecar-0", 1, {}, FailureReason.SIDECAR_PREP, 1),
        ("setup", 7, {}, FailureReason.SETUP_COMMAND, 7),
        ("warm", 2, {}, FailureReason.INIT_CONTAINER, 2),
        ("warm", 137, {"reason": "OOMKilled"}, FailureReason.CONTAINER_OOM, 137),
        ("copy-sidecar-0", 128, {"reason": "StartError"}, FailureReason.SIDECAR_PREP, None),
        ("setup", 128, {"reason": "ContainerCannotRun"}, FailureReason.SETUP_COMMAND, None),
    ],
)
def test_an_init_container_that_failed_is_why_the_task_never_ran(
    name: str, code: int, more: dict[str, Any], reason: FailureReason, exit_code: int | None
) -> None:
    view = pod(
        phase="Failed",
        initContainerStatuses=[terminated(name, code, **more)],
        containerStatuses=[waiting("task", "PodInitializing")],
    )
    outcome = explain(view)
    assert (outcome.reason, outcome.exit_code) == (reason, exit_code)
    assert f"`{name}`" in outcome.message


@pytest.mark.parametrize("sidecar", [terminated("proxy", 143), terminated("proxy", 137, reason="OOMKilled")])
def test_how_a_native_sidecar_ends_never_decides(sidecar: dict[str, Any]) -> None:
    view = pod(
        phase="Failed",
        spec=NATIVE,
        initContainerStatuses=[sidecar, terminated("warm", 0)],
        containerStatuses=[terminated("task", 4)],
    )
    outcome = explain(view)
    assert (outcome.reason, outcome.exit_code) == (FailureReason.CONTAINER_EXIT, 4)
    assert "proxy" not in outcome.message


# Containers that end under a deadline end because of it; eviction and OOM are causes.
@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ((), FailureReason.ACTIVE_DEADLINE),
        ((ended(terminated("task", 143), metadata=GONE),), FailureReason.ACTIVE_DEADLINE),
        ((ended(terminated("task", 1)),), FailureReason.ACTIVE_DEADLINE),
        ((ended(OOM),), FailureReason.CONTAINER_OOM),
        ((ended(reason="Evicted"),), FailureReason.EVICTED),
    ],
)
def test_a_job_past_its_deadline(pods: tuple[PodView, ...], reason: FailureReason) -> None:
    assert explain(*pods, condition=DEADLINE).reason is reason


def test_a_job_past_its_deadline_names_the_first_container_that_waited_for_something() -> None:
    containers = [
        running("helper"),
        waiting("task", "PodInitializing"),
        waiting("proxy", "ImagePullBackOff"),
        waiting("cache", "CreateContainerError"),
    ]
    message = explain(pod(phase="Pending", containerStatuses=containers), condition=DEADLINE).message
    assert ", while container `proxy` was waiting (ImagePullBackOff): raise" in message
    assert message.count("while container") == 1


@pytest.mark.parametrize(
    ("status", "quote"),
    [
        ({"reason": "OutOfcpu"}, ", its Pod says (OutOfcpu): its events"),
        ({"message": "Node has no cpu"}, ", its Pod says (Node has no cpu): its events"),
        ({}, "(BackoffLimitExceeded: it failed): its events"),
    ],
)
def test_a_pod_is_quoted_where_it_has_a_reason_or_a_message(status: dict[str, str], quote: str) -> None:
    assert quote in explain(ended(**status)).message


def test_the_newest_pod_speaks_first() -> None:
    old = ended(terminated("task", 1), metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    new = ended(terminated("task", 2), metadata={"creationTimestamp": "2026-01-01T00:00:05Z"})
    assert explain(old, new).exit_code == 2
    assert explain(new, old).exit_code == 2


@pytest.mark.parametrize(
    ("pods", "condition", "message"),
    [
        (
            (ended(terminated("task", 137, message="last words\nof the agent.")),),
            LIMIT,
            "Container `task` ended with exit code 137 (SIGKILL): its log shows why"
            " (kubectl logs -n agents oz-task-1-abcde -c task)",
        ),
        (
            (ended(terminated("task", 137, reason="ContainerStatusUnknown", message="not located")),),
            LIMIT,
            "Container `task` ended with exit code 137 (SIGKILL) (ContainerStatusUnknown: not located): its"
            " log shows why (kubectl logs -n agents oz-task-1-abcde -c task)",
        ),
        (
            (ended(terminated("task", 143), metadata=GONE),),
            LIMIT,
            "The Pod was deleted by somebody while container `task` ran, which ended with exit code 143"
            " (SIGTERM): find out who deletes Pods, and run the task again",
        ),
        (
            (ended(terminated("task", 127)),),
            LIMIT,
            "Container `task` ended with exit code 127: `/agent/entrypoint.sh` or a program that it calls is"
            " missing from the image or the sidecars",
        ),
        (
            (ended(OOM),),
            LIMIT,
            "Container `task` was killed because it used more memory than its limit (OOMKilled, exit code 137"
            " (SIGKILL)): give the task more memory, through its instance shape or"
            " backend.kubernetes.resources",
        ),
        (
            (ended(reason="Evicted", message="The node was low on resource: memory."),),
            LIMIT,
            "The Pod was evicted from node node-1 (Evicted: The node was low on resource: memory): run the"
            " task again, or let backend.kubernetes.retry_on_disruption do so; where the node was short of"
            " something, let the task ask for what it uses (backend.kubernetes.resources)",
        ),
        (
            (pod(phase="Pending", metadata=GONE, containerStatuses=[waiting("task", "ImagePullBackOff")]),),
            DEADLINE,
            "The task ran into its active deadline (DeadlineExceeded: Job was active longer than specified"
            " deadline), while container `task` was waiting (ImagePullBackOff): raise"
            " backend.kubernetes.active_deadline_seconds if it needs more time",
        ),
        (
            (ended(reason="OutOfcpu", message="Node has no cpu"),),
            LIMIT,
            "The Job failed (BackoffLimitExceeded: it failed), its Pod says (OutOfcpu: Node has no cpu): its"
            " events show more (kubectl describe job)",
        ),
        (
            (),
            LIMIT,
            "The Job failed (BackoffLimitExceeded: it failed), and its Pod is gone, which knew why: it was"
            " deleted, drained, or lost with its node. Find out who deletes Pods, and run the task again",
        ),
    ],
)
def test_the_message_is_a_sentence_with_what_to_do(
    pods: tuple[PodView, ...], condition: Condition, message: str
) -> None:
    assert explain(*pods, condition=condition).message == message


def test_an_agent_that_cannot_be_executed() -> None:
    message = explain(ended(terminated("task", 126))).message
    assert message.endswith("exit code 126: a program that the agent calls cannot be executed")


CANARY = "fatal: unable to access\n'https://x-access-token:ghs_canary@git.test'"
PRINTED = "fatal: unable to access 'https://x-access-token:ghs_canary@git.test'"


def init_ended(name: str, code: int, **more: Any) -> PodView:
    return pod(phase="Failed", initContainerStatuses=[terminated(name, code, message=CANARY, **more)])


@pytest.mark.parametrize("code", [1, 126, 127, 128, 137])
@pytest.mark.parametrize(
    "view",
    [
        lambda code: init_ended("setup", code),
        lambda code: init_ended("copy-sidecar-0", code),
        lambda code: init_ended("warm", code),
        lambda code: ended(terminated("task", code, message=CANARY)),
        lambda code: ended(terminated("task", code, message=CANARY, reason="Whatever")),
        lambda code: ended(terminated("helper", code, message=CANARY), waiting("task", "x")),
    ],
    ids=["setup", "copy", "template's init", "task", "unknown reason", "template's own"],
)
def test_what_a_container_wrote_is_no_part_of_the_message(view: Callable[[int], PodView], code: int) -> None:
    outcome = explain(view(code))
    assert "canary" not in outcome.message
    assert f"exit code {code}" in outcome.message
    assert outcome.task_text == TaskText(PRINTED)


@pytest.mark.parametrize(
    "view",
    [
        ended(terminated("task", 137, reason="OOMKilled", message=CANARY)),
        ended(terminated("task", 143, message=CANARY), metadata=GONE),
        ended(terminated("task", 143, message=CANARY), conditions=[PREEMPTED]),
        ended(terminated("task", 143, message=CANARY), reason="DeadlineExceeded"),
    ],
    ids=["OOM", "deleted", "preempted", "deadline"],
)
def test_container_messages_are_ignored_where_the_cluster_ended_the_pod(view: PodView) -> None:
    assert "canary" not in explain(view).for_owner()


# deletionTimestamp is the time of the request and its grace period: here 12:00:00.
DELETED_AT_NOON = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("code", "finished", "reason"),
    [
        (1, "2026-01-01T11:59:59Z", FailureReason.CONTAINER_EXIT),
        # K13: whole seconds. What ended in the second of the request has ended by itself, unless by a signal.
        (1, "2026-01-01T12:00:00Z", FailureReason.CONTAINER_EXIT),
        (143, "2026-01-01T12:00:00Z", FailureReason.POD_MISSING),
        (1, "2026-01-01T12:00:01Z", FailureReason.POD_MISSING),
        (143, "2026-01-01T12:00:05Z", FailureReason.POD_MISSING),
        # The node's clock may be behind that of the API server.
        (143, "2026-01-01T11:59:30Z", FailureReason.POD_MISSING),
        (137, "2026-01-01T11:30:00Z", FailureReason.CONTAINER_EXIT),
        (1, None, FailureReason.POD_MISSING),
    ],
)
def test_a_container_that_ended_before_its_pod_was_deleted_ended_by_itself(
    code: int, finished: str | None, reason: FailureReason
) -> None:
    view = ended(terminated("task", code, finishedAt=finished), metadata=DELETED_AT_NOON)
    outcome = explain(view)
    assert (outcome.reason, outcome.exit_code) == (reason, code)


def test_a_job_whose_end_has_nothing_to_do_with_its_pod_does_not_miss_one() -> None:
    other = Condition(type="Failed", status="True", reason="FailedIndexes", message="index 0")
    assert explain(condition=other).reason is FailureReason.JOB_FAILED


def created(name: str, at: int = 0) -> EventView:
    about = {"kind": "Job", "name": "j"}
    return event("SuccessfulCreate", f"Created pod: {name}", at=at, kind="Normal", involvedObject=about)


def pod_event(reason: str, message: str = "why", at: int = 10, *, of: str = "j-a") -> EventView:
    return event(reason, message, at=at, kind="Normal", involvedObject={"kind": "Pod", "name": of})


NOT_READY = pod_event("NodeNotReady", "Node is not ready", 20)
TAINTED = pod_event("TaintManagerEviction", "Marking for deletion Pod ns/j-a", 30)
REVOKED = pod_event("TaintManagerEviction", "Cancelling deletion of Pod ns/j-a", 40)
KILLING = pod_event("Killing", "Stopping container task", 50)

FAILED_TRY = pod_event("ScaleDownFailed", "failed to delete pod for ScaleDown", 20)

ROWS = {
    "preempted": ([pod_event("Preempted")], FailureReason.POD_PREEMPTED),
    "preempted by the kubelet": ([pod_event("Preempting")], FailureReason.POD_PREEMPTED),
    "evicted by the kubelet": ([pod_event("Evicted", "The node was low on resource")], FailureReason.EVICTED),
    "node removed by the autoscaler": ([pod_event("ScaleDown"), KILLING], FailureReason.EVICTED),
    "an eviction that did not come about": (
        [pod_event("ScaleDown"), FAILED_TRY, KILLING],
        FailureReason.POD_MISSING,
    ),
    "evicted at the second try": (
        [pod_event("ScaleDown"), FAILED_TRY, pod_event("ScaleDown", at=30), KILLING],
        FailureReason.EVICTED,
    ),
    "preempted after a try to evict": (
        [pod_event("Preempted"), pod_event("ScaleDown", at=15), FAILED_TRY],
        FailureReason.POD_PREEMPTED,
    ),
    "tainted": ([TAINTED, KILLING], FailureReason.EVICTED),
    "tainted, then not": ([TAINTED, REVOKED, KILLING], FailureReason.EVICTED),
    "only told that it may stay": ([REVOKED, KILLING], FailureReason.POD_MISSING),
    "silent node": ([NOT_READY], FailureReason.NODE_LOST),
    "silent node, driven away": ([NOT_READY, TAINTED], FailureReason.NODE_LOST),
    "a node that came back": ([NOT_READY, KILLING], FailureReason.POD_MISSING),
    "preempted after its node came back": (
        [NOT_READY, pod_event("Preempted", at=40), KILLING],
        FailureReason.POD_PREEMPTED,
    ),
    "preempted before its node was silent": ([pod_event("Preempted"), NOT_READY], FailureReason.NODE_LOST),
    "deleted": ([KILLING], FailureReason.POD_MISSING),
    "nothing": ([], FailureReason.POD_MISSING),
}


@pytest.mark.parametrize(("events", "reason"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("job_has_events", [True, False])
def test_the_events_of_a_pod_that_is_gone_speak_for_it(
    events: list[EventView], reason: FailureReason, job_has_events: bool
) -> None:
    about_job = [created("j-a")] if job_has_events else []
    outcome = explain_failure(LIMIT, (), [*reversed(events), *about_job])
    assert outcome.reason is reason


def test_the_clusters_message_is_quoted() -> None:
    outcome = explain_failure(LIMIT, (), [pod_event("Preempted", "Preempted by pod p on node n")])
    assert outcome.message.startswith(
        "The Pod was preempted: a Pod of a higher priority took its place (Preempted: Preempted by pod p on"
        " node n): run the task again"
    )
    over = explain_failure(
        LIMIT, (), [pod_event("Evicted", 'Usage of EmptyDir volume "workspace" exceeds the limit')]
    )
    assert "workspace_size_limit" in over.message


def test_the_last_pod_of_a_job_counts() -> None:
    events = [
        created("j-a", 0),
        pod_event("Preempted", at=5),
        created("j-b", 20),
        pod_event("Evicted", of="j-b", at=30),
    ]
    assert pods_of_job(reversed(events)) == ["j-a", "j-b"]
    assert events_of_last_pod(reversed(events)) == [events[3]]
    assert events_of_last_pod(events[:3]) == []
    assert explain_failure(LIMIT, (), events).reason is FailureReason.EVICTED
    assert explain_failure(LIMIT, (), events[:3]).reason is FailureReason.POD_MISSING


def test_where_no_event_names_the_last_pod_it_is_the_one_that_was_heard_of_last() -> None:
    first = [pod_event("Scheduled", at=0), pod_event("Preempted", at=5), pod_event("Killing", at=40)]
    second = [pod_event("Scheduled", at=20, of="j-b"), pod_event("Started", at=30, of="j-b")]
    assert events_of_last_pod([*second, *first]) == second
    assert events_of_last_pod(first) == first
    assert events_of_last_pod([]) == []


def test_of_the_pods_that_are_gone_the_newest_are_looked_for() -> None:
    events = [created(f"j-{number:02}", number) for number in range(14)]
    assert gone_pods(events, ["j-13", "j-00"]) == [f"j-{number:02}" for number in range(3, 13)]


def test_a_pod_that_is_there_knows_better() -> None:
    there = pod(phase="Failed", containerStatuses=[terminated("task", 3)])
    assert explain_failure(LIMIT, (there,), [pod_event("Preempted")]).reason is FailureReason.CONTAINER_EXIT


def test_a_job_that_knows_why_is_asked_first() -> None:
    assert explain_failure(DEADLINE, (), [pod_event("Preempted")]).reason is FailureReason.ACTIVE_DEADLINE
    assert not is_unexplained(failed(FailureReason.ACTIVE_DEADLINE, "x"), ())
