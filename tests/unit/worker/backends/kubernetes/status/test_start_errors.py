"""K14: a program that cannot be run, by the words of the runtime."""

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView
from oz_agent_worker.worker.backends.kubernetes.status.failure import explain_failure
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.start_errors import start_advice, wrong_architecture
from oz_agent_worker.worker.backends.kubernetes.status.waiting import pod_problems
from tests.unit.worker.backends.kubernetes.samples import pod, terminated, waiting

RUNC = "OCI runtime create failed: runc create failed: unable to start container process: "
FAILED = Condition(type="Failed", status="True", reason="BackoffLimitExceeded")

WORDS = [
    (f"{RUNC}exec /bin/sh: exec format error: unknown", "another CPU architecture than the node's"),
    ("exec user process caused: Exec format error", "another CPU architecture than the node's"),
    (f'{RUNC}exec: "/bin/sh": permission denied: unknown', "chmod +x"),
    (f'{RUNC}exec: "/x": stat /x: no such file or directory', "is not in the image"),
    (f"{RUNC}exec /x: no such file or directory", "CR LF"),
    (f'{RUNC}exec: "agent": executable file not found in $PATH', "no such program on its PATH"),
    ("something else", "check that its image has the program"),
    (None, "check that its image has the program"),
]


@pytest.mark.parametrize(("message", "advice"), WORDS)
def test_the_advice_names_the_cause(message: str | None, advice: str) -> None:
    assert advice in start_advice(message)
    waits = pod(phase="Pending", containerStatuses=[waiting("task", "RunContainerError", message or "")])
    (problem,) = pod_problems(waits, ObservationPolicy())
    assert advice in problem.finding.advice


@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun"])
@pytest.mark.parametrize("name", ["task", "copy-sidecar-0", "setup", "warm"])
@pytest.mark.parametrize(("message", "advice"), WORDS)
def test_a_container_that_could_not_be_started(
    message: str | None, advice: str, name: str, reason: str
) -> None:
    end = terminated(name, 128, reason=reason, message=message)
    view = (
        pod(phase="Failed", containerStatuses=[end])
        if name == "task"
        else pod(phase="Failed", initContainerStatuses=[end])
    )
    assert advice in explain_failure(FAILED, (view,)).message


def ended(name: str, code: int, message: str | None) -> PodView:
    end = terminated(name, code, message=message)
    if name == "task":
        return pod(phase="Failed", containerStatuses=[end])
    return pod(phase="Failed", initContainerStatuses=[end])


@pytest.mark.parametrize("code", [1, 126, 255])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("task", FailureReason.CONTAINER_EXIT),
        ("copy-sidecar-0", FailureReason.SIDECAR_PREP),
        ("setup", FailureReason.SETUP_COMMAND),
    ],
)
def test_a_container_whose_last_words_are_of_another_format(
    name: str, reason: FailureReason, code: int
) -> None:
    """The words choose the advice. They are the container's own: not in the message, and no reason."""
    outcome = explain_failure(FAILED, (ended(name, code, "canary: /bin/sh: Exec format error"),))
    assert (outcome.reason, outcome.exit_code) == (reason, code)
    assert "probably the image is built for another CPU architecture" in outcome.message
    assert "canary" not in outcome.message
    assert "`/bin/sh` and `cp`" not in outcome.message


def test_other_last_words_choose_no_architecture() -> None:
    assert wrong_architecture("no space left on device") == wrong_architecture(None) == ""
    outcome = explain_failure(FAILED, (ended("copy-sidecar-0", 1, "no space left on device"),))
    assert "`/bin/sh` and `cp`" in outcome.message
