"""How a Job that failed ended its task: by the task's own end, its Pod, or the Job's condition. Pure.

A Job fails with any of its containers, the task only with the container ``task``: how that ended by
itself decides (``own_end``).

A preempted or evicted Pod is deleted, and its status with it. Its events stay for an hour
(kube-apiserver, ``--event-ttl``), so they explain the end of a Job without a Pod. An eviction
through the API, such as by ``kubectl drain``, leaves no event of its own.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, describe_exit_code, failed, succeeded
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import (
    Condition,
    ContainerStatus,
    PodView,
    Terminated,
    last_pod,
)

from .disruptions import disruption, disruption_from_events
from .messages import container_reason, quote_cluster, task_text
from .own_end import ended_by_deletion, own_end, past_deadline
from .start_errors import silent_start_advice, start_advice, wrong_architecture
from .waiting import START_FAILURES

__all__ = ["events_of_last_pod", "explain_failure", "gone_pods", "is_unexplained", "pods_of_job"]

_EXIT_ADVICE: Final = {
    126: "a program that the agent calls cannot be executed",
    127: "`/agent/entrypoint.sh` or a program that it calls is missing from the image or the sidecars",
}

_DELETER: Final = "Find out who deletes Pods, and run the task again"
#: The most deleted Pods of a Job whose events are read: the newest ones.
_MAX_GONE: Final = 10
# Job controller: the message of the event ``SuccessfulCreate``.
_CREATED: Final = re.compile(r"Created pod: (\S+)")
#: Reasons of a Job that failed with its Pod (batch/v1, JobReasonBackoffLimitExceeded and PodFailurePolicy).
_POD_COUNTS: Final = frozenset({"BackoffLimitExceeded", "PodFailurePolicy"})
#: A container that ended: its status, its end, whether it is an init container.
_End: TypeAlias = tuple[ContainerStatus, Terminated, bool]


def explain_failure(
    condition: Condition | None, pods: Sequence[PodView], events: Iterable[EventView] = ()
) -> Outcome:
    """Return the outcome of a Job that failed; a task whose own container ended with 0 has succeeded.

    ``condition`` is the Job's, ``None`` where the Job controller has not spoken and its Pod failed.
    Only the Job's last Pod counts: Pods before it were disrupted, and the Job started another.
    Where no Pod is left, ``events`` (about the Job and its Pods) show whether the last one was
    disrupted.
    """
    pod = last_pod(pods)
    own = own_end(pod, condition) if pod is not None else None
    if pod is not None and own is not None:
        return succeeded() if own.code == 0 else _end_of_task(pod, condition)
    # Past its deadline the Job controller ends the Pods, so the deadline comes before the ends of
    # containers. A disruption or the OOM killer is never an effect of the deadline.
    outcome = (
        (pod and (disruption(pod) or _out_of_memory(_ends(pod))))
        or _deadline(condition, pod)
        or (pod and _container_end(pod, condition, _ends(pod)))
        or _job_failure(condition, pod)
    )
    if not is_unexplained(outcome, pods):
        return outcome
    return disruption_from_events(events_of_last_pod(events)) or outcome


def _end_of_task(pod: PodView, condition: Condition | None) -> Outcome:
    """The failure of the container ``task``, which ended by itself."""
    ends = [end for end in _ends(pod) if end[0].name == TASK_CONTAINER and not end[2]]
    outcome = _out_of_memory(ends) or _container_end(pod, condition, ends)
    assert outcome is not None
    return outcome


def _out_of_memory(ends: Iterable[_End]) -> Outcome | None:
    """core/v1, ContainerStateTerminated.reason ``OOMKilled``, set by the container runtime."""
    for container, ended, _ in ends:
        if ended.reason == "OOMKilled":
            text = (
                f"Container `{container.name}` was killed because it used more memory than its limit"
                f" (OOMKilled, {describe_exit_code(ended.code)}): give the task more memory, through"
                " its instance shape or backend.kubernetes.resources"
            )
            return failed(FailureReason.CONTAINER_OOM, text, exit_code=ended.code)
    return None


def _deadline(condition: Condition | None, pod: PodView | None) -> Outcome | None:
    """batch/v1, JobReasonDeadlineExceeded; or the Pod's own activeDeadlineSeconds (kubelet)."""
    passed = past_deadline(pod, condition)
    if passed is None:
        return None
    waiting = ""
    for container in pod.all_container_statuses if pod else ():
        reason = container.waiting.reason if container.waiting else None
        if reason not in {None, "PodInitializing"} and not waiting:
            waiting = f", while container `{container.name}` was waiting ({reason})"
    text = (
        f"The task ran into its active deadline{quote_cluster(passed.reason, passed.message)}{waiting}:"
        " raise backend.kubernetes.active_deadline_seconds if it needs more time"
    )
    return failed(FailureReason.ACTIVE_DEADLINE, text)


def _container_end(pod: PodView, condition: Condition | None, ends: Iterable[_End]) -> Outcome | None:
    """core/v1, ContainerStateTerminated of a container that did not end well."""
    for container, ended, init in ends:
        if ended.reason in START_FAILURES:
            # Nothing ran: the exit code (128) and the message are the runtime's.
            reason = container_reason(container.name, FailureReason.CONTAINER_START, init=init)
            quote = quote_cluster(ended.reason, ended.message)
            text = f"Container `{container.name}` could not be started{quote}: {start_advice(ended.message)}"
            return failed(reason, text)
        if ended.code != 0:
            return _exited(pod, condition, container, ended, init=init)
    return None


def _exited(
    pod: PodView, condition: Condition | None, container: ContainerStatus, ended: Terminated, *, init: bool
) -> Outcome:
    code = ended.code
    reason = container_reason(container.name, FailureReason.CONTAINER_EXIT, init=init)
    if ended_by_deletion(pod, ended, condition):
        text = (
            f"The Pod was deleted by somebody while container `{container.name}` ran, which ended with"
            f" {describe_exit_code(code)}: find out who deletes Pods, and run the task again"
        )
        return failed(FailureReason.POD_MISSING, text, exit_code=code)
    # The message of an end is what the container wrote: its termination message, or the end of its log
    # (core/v1, terminationMessagePolicy). "Error" is what runtimes report for any exit code but 0.
    unseen = ended.is_unseen
    runtime_reason = ended.reason if ended.reason != "Error" else None
    quote = quote_cluster(runtime_reason, ended.message if unseen else None)
    text = f"Container `{container.name}` ended with {describe_exit_code(code)}{quote}"
    advice = wrong_architecture(ended.message) or _advice(pod, container.name, reason, code)
    if container.name == TASK_CONTAINER:
        advice += silent_start_advice(ended)
    return failed(
        reason,
        f"{text}: {advice}",
        exit_code=code,
        task_text=None if unseen else task_text(ended.message),
    )


def _advice(pod: PodView, container: str, reason: FailureReason, code: int) -> str:
    if reason is FailureReason.SIDECAR_PREP:
        return "the sidecar's image needs `/bin/sh` and `cp`, or set backend.kubernetes.use_image_volumes"
    if reason is FailureReason.SETUP_COMMAND:
        return "correct backend.kubernetes.setup_command or what it works with"
    if container == TASK_CONTAINER and code in _EXIT_ADVICE:
        return _EXIT_ADVICE[code]
    namespace = f" -n {pod.metadata.namespace}" if pod.metadata.namespace else ""
    return f"its log shows why (kubectl logs{namespace} {pod.metadata.name} -c {container})"


def _job_failure(condition: Condition | None, pod: PodView | None) -> Outcome:
    """batch/v1, JobCondition ``Failed`` with nothing in a Pod that explains it."""
    reason, message = (condition.reason, condition.message) if condition is not None else (None, None)
    text = f"The Job failed{quote_cluster(reason, message)}" if condition is not None else "The Pod failed"
    if pod is not None and (pod.reason or pod.message):
        # Such as the kubelet's UnexpectedAdmissionError or OutOfcpu.
        text += f", its Pod says{quote_cluster(pod.reason, pod.message)}"
    elif pod is None and reason in _POD_COUNTS:
        gone = "its Pod is gone, which knew why: it was deleted, drained, or lost with its node"
        return failed(FailureReason.POD_MISSING, f"{text}, and {gone}. {_DELETER}")
    elif pod is not None and pod.metadata.deletion_timestamp:
        return failed(FailureReason.POD_MISSING, f"{text}, because its Pod was deleted. {_DELETER}")
    return failed(FailureReason.JOB_FAILED, f"{text}: its events show more (kubectl describe job)")


def _ends(pod: PodView) -> Iterator[_End]:
    """Yield the containers that ended, as (status, end, is an init container), by what they explain.

    An init container that failed is why the task never ran. Then the task's own end comes before
    that of a template's containers. The end of a native sidecar (KEP-753) never counts.
    """
    native = pod.native_sidecars()
    for container in pod.init_container_statuses:
        if container.terminated is not None and container.name not in native:
            yield container, container.terminated, True
    for container in sorted(pod.container_statuses, key=lambda c: c.name != TASK_CONTAINER):
        if container.terminated is not None:
            yield container, container.terminated, False


def pods_of_job(events: Iterable[EventView]) -> list[str]:
    """Return the names of the Pods that a Job has had, the oldest first, from the events about it."""
    ordered = sorted((e for e in events if e.reason == "SuccessfulCreate"), key=last_seen)
    found = (_CREATED.search(event.message or "") for event in ordered)
    return [match[1] for match in found if match]


def gone_pods(of_job: Iterable[EventView], existing: Iterable[str]) -> list[str]:
    """Return the names of a Job's deleted Pods, the newest ten, from the events about the Job."""
    present = set(existing)
    return [name for name in pods_of_job(of_job) if name not in present][-_MAX_GONE:]


def events_of_last_pod(events: Iterable[EventView]) -> list[EventView]:
    """Return those of ``events`` (about a Job and its Pods) that are about its last Pod, the oldest first.

    That is the Pod that was created last. Where the events of the creations are gone, as for a Job that
    ran for long, it is the Pod whose own events begin last.
    """
    ordered = sorted(events, key=last_seen)
    of_pods: dict[str | None, list[EventView]] = {}
    for event in ordered:
        about = event.involved_object
        if about is not None and about.kind == "Pod":
            of_pods.setdefault(about.name, []).append(event)
    last = next(reversed(pods_of_job(ordered) or of_pods), None)
    return of_pods.get(last, [])


def is_unexplained(outcome: Outcome, pods: Sequence[PodView]) -> bool:
    """Whether events may explain an outcome better, because the Job's Pods are gone."""
    return outcome.reason is FailureReason.POD_MISSING and not pods
