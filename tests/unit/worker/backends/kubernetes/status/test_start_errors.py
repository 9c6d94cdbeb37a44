"""K14: a program that cannot be run, by the words of the runtime."""

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView, Terminated
from oz_agent_worker.worker.backends.kubernetes.status.failure import explain_failure
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.start_errors import (
    silent_start_advice,
    start_advice,
    wrong_architecture,
)
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


@pytest.mark.parametrize(
    ("code", "finished", "message", "says"),
    [
        (1, "2026-01-01T12:00:00Z", None, True),
        (255, "2026-01-01T12:00:01Z", None, True),
        (1, "2026-01-01T12:00:02Z", None, False),
        (3, "2026-01-01T12:00:00Z", None, False),
        (1, "2026-01-01T12:00:00Z", "fatal: no such branch", False),
        (1, None, None, False),
    ],
)
def test_a_task_that_ends_at_once_may_be_of_another_architecture(
    code: int, finished: str | None, message: str | None, says: bool
) -> None:
    """runc writes `exec format error` into the container's log, where the worker does not look."""
    times = {"startedAt": "2026-01-01T12:00:00Z", "finishedAt": finished, "message": message}
    for name, of_task in (("task", says), ("setup", False)):
        end = terminated(name, code, **times)
        group = "containerStatuses" if name == "task" else "initContainerStatuses"
        outcome = explain_failure(FAILED, (pod(phase="Failed", **{group: [end]}),))
        assert ("; where that says `exec format error`, the image is built for" in outcome.message) == of_task
    assert silent_start_advice(Terminated(exit_code=1, finished_at="2026-01-01T12:00:00Z")) == ""
