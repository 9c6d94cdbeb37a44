"""Jobs without a Pod, Pods without a node, and Pods that do not start: when each becomes a problem."""

import math
from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts, Refusal, ScaleUp
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.pending import (
    missing_pod_problems,
    scheduling_problems,
    startup_problems,
)
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import pod, running, terminated, waiting

JOB_POLICY = ObservationPolicy(unschedulable_timeout=30.0, refusal_grace=10.0, stuck_timeout=600.0)
QUOTA = EventFacts(about="job-1", refusal=Refusal.QUOTA, refused="FailedCreate: exceeded quota: small")
DENIED = EventFacts(about="job-1", refusal=Refusal.FINAL, refused="FailedCreate: violates PodSecurity")
WEBHOOK = EventFacts(about="job-1", refusal=Refusal.PASSING, refused="FailedCreate: failed calling webhook")


def seen(*conditions: str, **status: Any) -> JobView:
    """A Job that the Job controller has seen to."""
    true_conditions = [{"type": kind, "status": "True"} for kind in conditions]
    status = {"startTime": "2026-01-01T12:00:00Z", "conditions": true_conditions, **status}
    return msgspec.convert({"metadata": {"name": "j", "uid": "job-1"}, "status": status}, JobView)


def only_missing_pod(
    job: JobView, facts: EventFacts = NOT_READ, policy: ObservationPolicy = JOB_POLICY
) -> PodProblem:
    [problem] = missing_pod_problems(job, (), policy, facts)
    assert problem.outcome.reason is FailureReason.POD_MISSING
    assert (problem.key, problem.about) == ("job-1/pod_missing", "job-1")
    return problem


@pytest.mark.parametrize(
    ("facts", "grace", "message_part"),
    [
        (NOT_READ, 600.0, "The Job has no Pod after 600 s: its events show more"),
        (QUOTA, 30.0, "no room for it in the namespace's quota (FailedCreate: exceeded quota: small): raise"),
        (DENIED, 10.0, "the cluster does not admit it (FailedCreate: violates PodSecurity): change"),
        (WEBHOOK, 600.0, "The Job has no Pod after 600 s (FailedCreate: failed calling webhook): its events"),
    ],
    ids=["no word", "quota", "denied", "webhook away"],
)
def test_a_job_without_a_pod(facts: EventFacts, grace: float, message_part: str) -> None:
    problem = only_missing_pod(seen(), facts)
    assert problem.grace == grace
    assert message_part in problem.outcome.message


def test_room_in_a_quota_is_waited_for_as_long_as_a_node_is() -> None:
    patient = ObservationPolicy(unschedulable_timeout=0.0)
    assert only_missing_pod(seen(), QUOTA, patient).grace == math.inf


def test_between_two_attempts_there_is_no_pod_and_no_problem_for_long() -> None:
    assert only_missing_pod(seen(failed=1)).grace == 1200.0
    assert only_missing_pod(seen(failed=1), DENIED).grace == 10.0


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        (msgspec.convert({"metadata": {"name": "j"}}, JobView), ()),
        (seen(startTime=None), ()),
        (seen(active=1), ()),
        (seen("Suspended"), ()),
        (seen("FailureTarget"), ()),
        (seen("SuccessCriteriaMet"), ()),
        (seen("Complete"), ()),
        (seen(), (pod(phase="Pending"),)),
        (seen(failed=1), (pod(phase="Failed"), pod(phase="Running"))),
        (seen(), (pod(phase="Succeeded"),)),
        (seen(), (pod(phase="Failed"),)),
        (seen(failed=1), (pod(phase="Failed"), pod(phase="Failed"))),
    ],
    ids=[
        "no status",
        "not seen to",
        "has one that was not told",
        "suspended",
        "failing",
        "succeeding",
        "complete",
        "pending",
        "running again",
        "succeeded, not counted",
        "failed, not counted",
        "failed again, not counted",
    ],
)
def test_a_job_that_misses_nothing(job: JobView, pods: tuple[PodView, ...]) -> None:
    assert [*missing_pod_problems(job, pods, JOB_POLICY)] == []
    assert [*missing_pod_problems(job, pods, JOB_POLICY, DENIED)] == []


def test_a_pod_that_has_ended_is_none_any_more() -> None:
    assert [*missing_pod_problems(seen(failed=1), (pod(phase="Failed"),), JOB_POLICY)] != []


NODE_POLICY = ObservationPolicy(unschedulable_timeout=30.0, scale_up_timeout=600.0, stuck_timeout=900.0)
COMING = EventFacts(about="uid-1", scale_up=ScaleUp.COMING, autoscaler="TriggeredScaleUp: workers 1->2")
REFUSED = EventFacts(about="uid-1", scale_up=ScaleUp.REFUSED, autoscaler="NotTriggerScaleUp: too big")
UNDECIDED = EventFacts(about="uid-1", autoscaler="FailedScheduling: no instance type fits")


def waits(reason: str = "Unschedulable", message: str = "0/3 nodes are available:\n 3 few cpu.") -> PodView:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(phase="Pending", spec={}, conditions=[condition])


def only_scheduling(view: PodView, facts: EventFacts = NOT_READ, **policy: Any) -> PodProblem:
    [problem] = scheduling_problems(view, ObservationPolicy(**policy) if policy else NODE_POLICY, facts)
    assert problem.outcome.reason is FailureReason.UNSCHEDULABLE
    return problem


@pytest.mark.parametrize(
    ("facts", "grace", "message"),
    [
        (
            NOT_READ,
            30.0,
            "No node takes its Pod within 30 s (0/3 nodes are available: 3 few cpu): add"
            " capacity, change what the task asks for, or raise"
            " backend.kubernetes.unschedulable_timeout",
        ),
        (
            UNDECIDED,
            30.0,
            "No node takes its Pod within 30 s (0/3 nodes are available: 3 few cpu); the autoscaler says"
            " (FailedScheduling: no instance type fits): add capacity, change what the task"
            " asks for, or raise"
            " backend.kubernetes.unschedulable_timeout",
        ),
        (
            COMING,
            600.0,
            "No node takes its Pod within 600 s (0/3 nodes are available: 3 few cpu), and the autoscaler adds"
            " one"
            " (TriggeredScaleUp: workers 1->2): see why the node does not come, or raise"
            " backend.kubernetes.scale_up_timeout",
        ),
        (
            REFUSED,
            0.0,
            "No node takes its Pod (0/3 nodes are available: 3 few cpu), and the autoscaler adds none"
            " (NotTriggerScaleUp: too big): let the Pod's requests, nodeSelector and tolerations fit a node"
            " group, or enlarge the group",
        ),
    ],
    ids=["nothing said", "undecided", "coming", "refused"],
)
def test_a_pod_that_fits_nowhere(facts: EventFacts, grace: float, message: str) -> None:
    problem = only_scheduling(waits(), facts)
    assert (problem.key, problem.grace, problem.about) == ("uid-1/unschedulable", grace, "uid-1")
    assert problem.outcome.message == message


def test_a_node_that_is_coming_never_shortens_the_wait() -> None:
    assert only_scheduling(waits(), COMING, unschedulable_timeout=900.0, scale_up_timeout=60.0).grace == 900.0


@pytest.mark.parametrize("facts", [NOT_READ, COMING, REFUSED])
def test_without_a_timeout_a_pod_waits_for_ever_whatever_the_autoscaler_says(facts: EventFacts) -> None:
    assert [*scheduling_problems(waits(), ObservationPolicy(unschedulable_timeout=0.0), facts)] == []


@pytest.mark.parametrize(
    "view",
    [
        waits("SchedulingGated", "gated"),
        pod(phase="Pending", spec={"nodeName": "n"}),
        pod(phase="Pending", spec={}, conditions=[{"type": "PodScheduled", "status": "True"}]),
    ],
    ids=["gated", "bound", "bound a moment ago"],
)
def test_a_pod_that_waits_for_no_node(view: PodView) -> None:
    assert [*scheduling_problems(view, NODE_POLICY)] == []


@pytest.mark.parametrize(
    ("view", "message_part"),
    [
        (pod(phase="Pending", spec={}), "within 900 s: see whether"),
        (waits("SchedulerError", "bad affinity"), "within 900 s (SchedulerError: bad affinity): see whether"),
    ],
    ids=["no word", "an error"],
)
def test_a_pod_that_no_scheduler_sees_to(view: PodView, message_part: str) -> None:
    problem = only_scheduling(view)
    assert (problem.key, problem.grace, problem.about) == ("uid-1/unscheduled", 900.0, "")
    assert message_part in problem.outcome.message


START_POLICY = ObservationPolicy(pull_grace=60.0, stuck_timeout=600.0, ask_after=10.0)
MOUNT = EventFacts(about="uid-1", mount='FailedMount: secret "key" not found')
PULLING = EventFacts(about="uid-1", pulling=True)
NO_ADDRESS = EventFacts(about="uid-1", warning="FailedCreatePodSandBox: no free IP")
NATIVE = {"nodeName": "node-1", "initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}


def starting(*inits: dict[str, Any], sandbox: bool | None = None, **more: Any) -> PodView:
    """A Pod on a node, its task waiting; ``sandbox`` as newer kubelets report it."""
    conditions = [{"type": "PodScheduled", "status": "True"}]
    if sandbox is not None:
        conditions.append({"type": "PodReadyToStartContainers", "status": str(sandbox)})
    mains = [waiting("task", "PodInitializing" if inits else "ContainerCreating")]
    status = {"initContainerStatuses": list(inits), "containerStatuses": mains, "conditions": conditions}
    return pod(phase="Pending", **{**status, **more})


def only_startup(view: PodView, facts: EventFacts = NOT_READ) -> PodProblem:
    [problem] = startup_problems(view, START_POLICY, facts)
    return problem


@pytest.mark.parametrize("sandbox", [None, False])
def test_a_mount_that_fails_has_a_grace_whatever_is_missing(sandbox: bool | None) -> None:
    problem = only_startup(starting(sandbox=sandbox), MOUNT)
    assert (problem.key, problem.grace, problem.about) == ("uid-1/volume_mount", 60.0, "uid-1")
    assert problem.outcome.reason is FailureReason.VOLUME_MOUNT
    assert problem.outcome.message == (
        'The Pod\'s volumes cannot be mounted (FailedMount: secret "key" not found): check that the Secrets,'
        " ConfigMaps and volume claims which its volumes name exist, and that the node can attach them"
    )


def test_with_a_sandbox_the_volumes_are_mounted_whatever_an_old_event_says() -> None:
    assert only_startup(starting(sandbox=True), MOUNT).key == "uid-1/starting/0"


@pytest.mark.parametrize(
    ("view", "key", "reason", "message_part"),
    [
        (
            starting(waiting("setup", "PodInitializing")),
            "uid-1/starting/0",
            FailureReason.INIT_STUCK,
            "Init container `setup` has not started in 600 s (FailedCreatePodSandBox: no free IP)",
        ),
        (
            starting(terminated("copy-sidecar-0", 0), waiting("setup", "PodInitializing")),
            "uid-1/starting/1",
            FailureReason.INIT_STUCK,
            "Init container `setup`",
        ),
        (
            starting(running("proxy"), waiting("setup", "PodInitializing"), spec=NATIVE),
            "uid-1/starting/1",
            FailureReason.INIT_STUCK,
            "Init container `setup`",
        ),
        (
            starting(waiting("proxy", "CrashLoopBackOff"), waiting("setup", "PodInitializing"), spec=NATIVE),
            "uid-1/starting/0",
            FailureReason.INIT_STUCK,
            "Init container `proxy`",
        ),
        (
            starting(terminated("setup", 0)),
            "uid-1/starting/1",
            FailureReason.CONTAINER_CREATE,
            "Container `task` has not been created in 600 s (FailedCreatePodSandBox: no free IP)",
        ),
        (
            starting(containerStatuses=[{"name": "task"}]),
            "uid-1/starting/0",
            FailureReason.CONTAINER_CREATE,
            "",
        ),
        (
            starting(containerStatuses=None),
            "uid-1/starting/0",
            FailureReason.NODE_LOST,
            "The node node-1 has not taken the Pod up in 600 s",
        ),
    ],
    ids=["first init", "second init", "after a native", "native", "task", "no state", "node silent"],
)
def test_a_start_without_progress(view: PodView, key: str, reason: FailureReason, message_part: str) -> None:
    problem = only_startup(view, NO_ADDRESS)
    assert (problem.key, problem.grace, problem.outcome.reason) == (key, 600.0, reason)
    assert message_part in problem.outcome.message


def test_probe_output_is_not_the_clusters_message() -> None:
    view = starting(running("proxy"), waiting("setup", "PodInitializing"), spec=NATIVE)
    probed = EventFacts(about="uid-1", warning="Unhealthy", task_text=TaskText("Startup probe failed: x"))
    outcome = only_startup(view, probed).outcome
    assert "has not started in 600 s (Unhealthy)" in outcome.message
    assert outcome.for_owner().endswith("; in its own words: Startup probe failed: x")


@pytest.mark.parametrize(
    "view",
    [
        starting(running("setup")),
        starting(terminated("setup", 0), running("warm"), spec=NATIVE),
        pod(phase="Running", containerStatuses=[waiting("helper", "ContainerCreating"), running("task")]),
        pod(phase="Pending", containerStatuses=[running("task")]),
        pod(phase="Pending", spec={}),
        PodView(),
    ],
    ids=["setup runs", "a later init runs", "running", "about to run", "no node", "nothing known"],
)
def test_a_pod_that_gets_on(view: PodView) -> None:
    assert [*startup_problems(view, START_POLICY, MOUNT)] == []


def test_a_pull_may_take_as_long_as_it_takes() -> None:
    problem = only_startup(starting(sandbox=True), PULLING)
    assert (problem.key, problem.grace) == ("uid-1/pulling/0", math.inf)


@pytest.mark.parametrize(("sandbox", "ask_after"), [(None, 10.0), (False, 10.0), (True, 600.0)])
def test_when_events_are_read_depends_on_the_sandbox(sandbox: bool | None, ask_after: float) -> None:
    assert only_startup(starting(sandbox=sandbox)).ask_after == ask_after
