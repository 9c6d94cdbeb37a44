"""Reads the events of tasks: of their Jobs, of their Pods, and of Pods that are deleted."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.disruptions import DISRUPTION_EVENTS
from oz_agent_worker.worker.backends.kubernetes.status.failure import (
    explain_failure,
    gone_pods,
    is_unexplained,
    pods_of_job,
)
from oz_agent_worker.worker.backends.kubernetes.status.job_state import job_state
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .task_jobs import TaskJob, pod_base, pod_prefix
from .task_state import is_starting, lost_its_pods

__all__ = ["events_for_list", "outcome_from_events", "task_events"]

_logger = logging.getLogger(__name__)

#: Of how many Pods at most a list of tasks reads all events: each costs a request.
MOST_PODS: Final = 100
#: A field selector, up to its value, of the events about the Pod of a name.
_POD_NAME: Final = "involvedObject.kind=Pod,involvedObject.name"
#: How long a result waits for events that may explain it, in seconds.
_PATIENCE: Final = 30.0


async def task_events(
    client: KubernetesClient, namespace: str, job: JobView, pods: Sequence[PodView]
) -> tuple[EventView, ...]:
    """Read the events of a Job, of its ``pods``, and of its deleted Pods.

    Raises:
        ApiError: they cannot be read.
    """
    of_job = await client.list_events_about(namespace, job.metadata.uid or "")
    gone = gone_pods(of_job, (pod.metadata.name for pod in pods))
    found = await asyncio.gather(
        *(client.list_events_about(namespace, pod.metadata.uid or "") for pod in pods),
        *(client.list_events_about(namespace, name, field=_POD_NAME) for name in gone),
    )
    return tuple(event for events in (of_job, *found) for event in events)


async def outcome_from_events(
    outcome: Outcome, client: KubernetesClient, namespace: str, job: JobView | None, pods: Sequence[PodView]
) -> Outcome:
    """Return the outcome, or what events show of the end of a Job whose Pods are deleted.

    A worker that adopts an ended Job needs this: the earlier worker may have seen the Pod's end and
    reported it, and an execution is not reported with two different ends. The outcome stays as it is
    where the events cannot be read in half a minute.
    """
    failure = job_state(job, tuple(pods)).cause if job is not None else None
    if job is None or failure is None or not is_unexplained(outcome, pods):
        return outcome
    try:
        async with asyncio.timeout(_PATIENCE):
            events = await task_events(client, namespace, job, pods)
    except (ApiError, TimeoutError) as error:
        _logger.debug("The events of Job %s cannot be read: %s", job.metadata.name, error)
        return outcome
    return explain_failure(failure, pods, events)


async def events_for_list(
    client: KubernetesClient,
    namespace: str,
    tasks: Sequence[tuple[TaskJob, Sequence[PodView]]],
    policy: ObservationPolicy,
) -> Mapping[str, Sequence[EventView]]:
    """Read the events that a correct list of ``tasks`` needs, by the names of their Jobs.

    These are the events of the last Pods of failed Jobs whose Pods are deleted, and of Pods with a
    warning during their start. A list of healthy tasks costs one request more at most. Events that
    cannot be read are left out.
    """
    found: dict[str, list[EventView]] = defaultdict(list)
    lost = [job for job, pods in tasks if lost_its_pods(job, pods)]
    starting = {
        pod.identity: job.metadata.name for job, pods in tasks for pod in pods if is_starting(pod, policy)
    }
    try:
        if lost:
            await _add_events_of_lost(client, namespace, lost, found)
        if starting:
            warnings = await client.list_events(namespace, "involvedObject.kind=Pod,type=Warning")
            warned = {event.involved_object.uid for event in warnings if event.involved_object}
            # All events of such a Pod count: a later one may say that the warning is over.
            uids = [uid for uid in starting if uid in warned]
            for uid, events in (await _events_by(client, namespace, "involvedObject.uid", uids)).items():
                found[starting[uid]] += events
    except ApiError as error:
        _logger.debug("Events cannot be read: %s", error)
    return found


async def _add_events_of_lost(
    client: KubernetesClient, namespace: str, lost: Sequence[JobView], found: dict[str, list[EventView]]
) -> None:
    """Add which Pods the Jobs had, and all events of each Job's last Pod if one explains its end."""
    created = await client.list_events(namespace, "involvedObject.kind=Job,reason=SuccessfulCreate")
    of_jobs: dict[str | None, list[EventView]] = defaultdict(list)
    for event in created:
        of_jobs[event.involved_object.uid if event.involved_object else None].append(event)
    lists = await asyncio.gather(
        *(
            client.list_events(namespace, f"involvedObject.kind=Pod,reason={reason}")
            for reason in DISRUPTION_EVENTS
        )
    )
    #: The names of disrupted Pods, in order, by the part of the name that is their Job's.
    disrupted: dict[str, dict[str, None]] = defaultdict(dict)
    for event in (event for events in lists for event in events):
        if event.involved_object is not None and event.involved_object.name:
            disrupted[pod_base(event.involved_object.name)][event.involved_object.name] = None
    wanted: dict[str, list[str]] = {}
    for job in lost:
        names = pods_of_job(of_jobs[job.metadata.uid])[-1:] or disrupted[pod_prefix(job.metadata.name)]
        wanted[job.metadata.name] = [name for name in names if name in disrupted[pod_base(name)]]
        found[job.metadata.name] += of_jobs[job.metadata.uid]
    pods = [name for names in wanted.values() for name in names]
    by_pod = await _events_by(client, namespace, _POD_NAME, pods)
    for job_name, names in wanted.items():
        found[job_name] += [event for name in names for event in by_pod.get(name, ())]


async def _events_by(
    client: KubernetesClient, namespace: str, field: str, values: Iterable[str]
) -> Mapping[str, list[EventView]]:
    """Return the events about the objects whose ``field`` has one of the values, by value."""
    asked = list(dict.fromkeys(values))[:MOST_PODS]
    lists = await asyncio.gather(
        *(client.list_events_about(namespace, value, field=field) for value in asked)
    )
    return dict(zip(asked, lists, strict=True))
