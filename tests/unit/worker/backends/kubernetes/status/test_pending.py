"""Pods with a node that do not get as far as their containers."""

import math
from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import FailureReason
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts
from oz_agent_worker.worker.backends.kubernetes.status.pending import startup_troubles
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, Trouble
from tests.unit.worker.backends.kubernetes.samples import pod, running, terminated, waiting

POLICY = ObservationPolicy(pull_grace=60.0, stuck_timeout=600.0, ask_after=10.0)
MOUNT = EventFacts(about="uid-1", mount=' (FailedMount: secret "key" not found)')
PULLING = EventFacts(about="uid-1", pulling=True)
NO_ADDRESS = EventFacts(about="uid-1", warning=" (FailedCreatePodSandBox: no free IP)")
NATIVE = {"nodeName": "node-1", "initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}


def starting(*inits: dict[str, Any], sandbox: bool | None = None, **more: Any) -> PodView:
    """A Pod on a node, its task waiting; ``sandbox`` as newer kubelets report it."""
    conditions = [{"type": "PodScheduled", "status": "True"}]
    if sandbox is not None:
        conditions.append({"type": "PodReadyToStartContainers", "status": str(sandbox)})
    mains = [waiting("task", "PodInitializing" if inits else "ContainerCreating")]
    status = {"initContainerStatuses": list(inits), "containerStatuses": mains, "conditions": conditions}
    return pod(phase="Pending", **{**status, **more})


def only(view: PodView, facts: EventFacts = NOT_READ) -> Trouble:
    [trouble] = startup_troubles(view, POLICY, facts)
    return trouble


@pytest.mark.parametrize("sandbox", [None, False])
def test_a_mount_that_fails_has_a_grace_whatever_is_missing(sandbox: bool | None) -> None:
    trouble = only(starting(sandbox=sandbox), MOUNT)
    assert (trouble.key, trouble.grace, trouble.about) == ("uid-1/volume_mount", 60.0, "uid-1")
    assert trouble.outcome.reason is FailureReason.VOLUME_MOUNT
    assert trouble.outcome.message == (
        'The Pod\'s volumes cannot be mounted (FailedMount: secret "key" not found): check that the Secrets,'
        " ConfigMaps and volume claims which its volumes name exist, and that the node can attach them"
    )


def test_with_a_sandbox_the_volumes_are_mounted_whatever_an_old_event_says() -> None:
    assert only(starting(sandbox=True), MOUNT).key == "uid-1/starting/0"


@pytest.mark.parametrize(
    ("view", "key", "reason", "words"),
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
def test_a_start_without_progress(view: PodView, key: str, reason: FailureReason, words: str) -> None:
    trouble = only(view, NO_ADDRESS)
    assert (trouble.key, trouble.grace, trouble.outcome.reason) == (key, 600.0, reason)
    assert words in trouble.outcome.message


def test_what_a_probe_printed_is_not_the_clusters_word() -> None:
    view = starting(running("proxy"), waiting("setup", "PodInitializing"), spec=NATIVE)
    probed = EventFacts(about="uid-1", warning=" (Unhealthy)", words=TaskText("Startup probe failed: x"))
    outcome = only(view, probed).outcome
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
    assert [*startup_troubles(view, POLICY, MOUNT)] == []


def test_a_pull_may_take_as_long_as_it_takes() -> None:
    trouble = only(starting(sandbox=True), PULLING)
    assert (trouble.key, trouble.grace) == ("uid-1/pulling/0", math.inf)


@pytest.mark.parametrize(("sandbox", "ask_after"), [(None, 10.0), (False, 10.0), (True, 600.0)])
def test_with_a_sandbox_events_tell_nothing_that_is_worth_a_request(
    sandbox: bool | None, ask_after: float
) -> None:
    assert only(starting(sandbox=sandbox)).ask_after == ask_after
