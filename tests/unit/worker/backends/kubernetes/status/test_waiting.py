"""Each state that keeps a Pod from running: its reason, its grace, its message."""

from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.waiting import pod_problems
from tests.unit.worker.backends.kubernetes.samples import pod, running, terminated, waiting

POLICY = ObservationPolicy(unschedulable_timeout=30.0, pull_grace=60.0)


def problems(view: PodView) -> list[PodProblem]:
    return list(pod_problems(view, POLICY))


def only(view: PodView) -> PodProblem:
    [problem] = problems(view)
    return problem


@pytest.mark.parametrize(
    ("reason", "failure", "grace"),
    [
        ("ErrImagePull", FailureReason.IMAGE_PULL, 60.0),
        ("ImagePullBackOff", FailureReason.IMAGE_PULL, 60.0),
        ("RegistryUnavailable", FailureReason.IMAGE_PULL, 60.0),
        ("ImageInspectError", FailureReason.IMAGE_PULL, 60.0),
        ("SignatureValidationFailed", FailureReason.IMAGE_PULL, 60.0),
        ("ErrImageNeverPull", FailureReason.IMAGE_PULL, 0.0),
        ("InvalidImageName", FailureReason.INVALID_IMAGE, 0.0),
        ("CreateContainerConfigError", FailureReason.CONTAINER_CREATE, 60.0),
        ("CreateContainerError", FailureReason.CONTAINER_CREATE, 60.0),
        ("RunContainerError", FailureReason.CONTAINER_START, 60.0),
    ],
)
def test_a_waiting_container(reason: str, failure: FailureReason, grace: float) -> None:
    problem = only(pod(phase="Pending", containerStatuses=[waiting("task", reason, "the cause")]))
    assert (problem.outcome.reason, problem.grace) == (failure, grace)
    assert f"({reason}: the cause)" in problem.outcome.message
    assert "`task`" in problem.outcome.message
    assert problem.outcome.exit_code is None


def test_hook_output_is_not_the_clusters_message() -> None:
    message = 'Exec lifecycle hook ([login]) failed - error: exit code 1, message: "canary"'
    view = pod(phase="Running", initContainerStatuses=[waiting("proxy", "PostStartHookError", message)])
    outcome = only(view).outcome
    assert outcome.reason is FailureReason.INIT_CONTAINER
    assert outcome.message == (
        "Container `proxy` was stopped because its postStart hook failed (PostStartHookError):"
        " correct the hook in backend.kubernetes.pod_template"
    )
    assert outcome.task_text == TaskText(message)


@pytest.mark.parametrize(
    "reason", ["PodInitializing", "ContainerCreating", "CrashLoopBackOff", "SomethingNew"]
)
def test_a_container_that_waits_as_it_should(reason: str) -> None:
    status = [waiting("task", reason)]
    assert problems(pod(phase="Running", containerStatuses=status)) == []
    # While nothing runs, that it goes on for ever is problem.
    assert only(pod(phase="Pending", containerStatuses=status)).grace == POLICY.stuck_timeout


@pytest.mark.parametrize(
    ("name", "reason", "failure"),
    [
        ("copy-sidecar-0", "CreateContainerConfigError", FailureReason.SIDECAR_PREP),
        ("copy-sidecar-11", "CreateContainerError", FailureReason.SIDECAR_PREP),
        ("setup", "CreateContainerError", FailureReason.SETUP_COMMAND),
        ("proxy", "CreateContainerConfigError", FailureReason.INIT_CONTAINER),
        ("proxy", "RunContainerError", FailureReason.INIT_CONTAINER),
        ("copy-sidecar-0", "ErrImagePull", FailureReason.IMAGE_PULL),
        ("setup", "InvalidImageName", FailureReason.INVALID_IMAGE),
    ],
)
def test_a_waiting_init_container(name: str, reason: str, failure: FailureReason) -> None:
    problem = only(pod(phase="Pending", initContainerStatuses=[waiting(name, reason)]))
    assert problem.outcome.reason is failure
    assert f"`{name}`" in problem.outcome.message


# Messages as containerd, CRI-O and the registries write them.
@pytest.mark.parametrize(
    "message",
    [
        'failed to pull and unpack image "docker.io/library/nope:1": failed to resolve reference'
        ' "docker.io/library/nope:1": docker.io/library/nope:1: not found',
        "manifest unknown: manifest unknown",
        "reading manifest v9 in quay.io/a/b: manifest unknown",
        "pull access denied, repository does not exist or may require authorization: server message:"
        " insufficient_scope: authorization failed",
        "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to"
        " https://ghcr.io/token: 401 Unauthorized",
        "denied: requested access to the resource is denied",
        "no basic auth credentials",
        "couldn't parse image name: invalid reference format",
        'Back-off pulling image "ghcr.io/a/b": ErrImagePull: rpc error: code = NotFound desc = x: not found',
    ],
)
def test_a_pull_that_cannot_heal_has_no_grace(message: str) -> None:
    view = pod(phase="Pending", containerStatuses=[waiting("task", "ErrImagePull", message)])
    assert only(view).grace == 0.0


@pytest.mark.parametrize(
    "message",
    [
        "dial tcp: lookup registry.example on 10.96.0.10:53: server misbehaving",
        "failed to do request: Head https://registry.example/v2/: net/http: TLS handshake timeout",
        "429 Too Many Requests - toomanyrequests: You have reached your unauthenticated pull rate limit",
        "received unexpected HTTP status: 503 Service Unavailable",
        "x509: certificate signed by unknown authority",
        'Back-off pulling image "registry.example/access-denied:1"',
        'Back-off pulling image "registry.example/denied/tool:1"',
        'Back-off pulling image "registry.example/tool:unauthorized"',
        'Back-off pulling image "denied.example/tool"',
        "",
    ],
)
def test_a_pull_that_may_heal_has_its_grace(message: str) -> None:
    view = pod(phase="Pending", containerStatuses=[waiting("task", "ErrImagePull", message)])
    assert only(view).grace == 60.0


def test_a_permanent_pull_error_does_not_shorten_other_problems() -> None:
    view = pod(
        phase="Pending",
        containerStatuses=[waiting("task", "CreateContainerConfigError", 'secret "npm" not found')],
    )
    assert only(view).grace == 60.0


def test_a_pod_that_has_ended_is_without_a_problem() -> None:
    assert problems(pod(phase="Failed", containerStatuses=[waiting("task", "ErrImagePull")])) == []


def test_a_pod_that_is_being_deleted_need_not_start_any_more() -> None:
    status = [waiting("task", "ErrImagePull")]
    deleted = pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, containerStatuses=status)
    assert only(deleted).outcome.reason is FailureReason.NODE_LOST


def test_each_kind_of_problem_is_asked_about() -> None:
    unbound = pod(
        phase="Pending",
        spec={},
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
    )
    assert only(unbound).outcome.reason is FailureReason.UNSCHEDULABLE
    assert only(pod(phase="Pending")).outcome.reason is FailureReason.NODE_LOST
    assert only(pod(phase="Unknown", spec={"nodeName": "n"})).outcome.reason is FailureReason.NODE_LOST


def native(*statuses: dict[str, Any], phase: str = "Running") -> PodView:
    return pod(
        phase=phase,
        spec={"nodeName": "n", "initContainers": [{"name": "proxy", "restartPolicy": "Always"}]},
        initContainerStatuses=list(statuses),
    )


def ended(reason: str, code: int) -> dict[str, Any]:
    return {"lastState": {"terminated": {"reason": reason, "exitCode": code, "message": "no such file"}}}


def test_a_native_sidecar_that_ends_again_and_again_is_no_problem() -> None:
    assert problems(native(waiting("proxy", "CrashLoopBackOff", **ended("Error", 1)))) == []
    assert problems(native(terminated("proxy", 143))) == []


@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun"])
def test_a_native_sidecar_that_never_starts_is_problem_under_one_key(reason: str) -> None:
    looping = only(native(waiting("proxy", "CrashLoopBackOff", **ended(reason, 128)), phase="Pending"))
    starting = only(native(waiting("proxy", "RunContainerError", "no such file"), phase="Pending"))
    assert looping.key == starting.key
    assert looping.outcome.reason is FailureReason.INIT_CONTAINER
    assert f"({reason}: no such file)" in looping.outcome.message


def test_a_healthy_pod_is_without_a_problem() -> None:
    view = pod(
        phase="Running",
        initContainerStatuses=[terminated("copy-sidecar-0", 0)],
        containerStatuses=[running("task")],
        conditions=[{"type": "PodScheduled", "status": "True"}],
    )
    assert problems(view) == []
    assert problems(PodView()) == []
