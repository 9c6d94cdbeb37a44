"""Reads the events of tasks' objects: of their Jobs, of their Pods, and of Pods that are gone."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.objects import EventView, JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.disruptions import DISRUPTION_EVENTS
from oz_agent_worker.worker.backends.kubernetes.status.failure import (
    explain_failure,
    gone_pods,
    is_unexplained,
    pods_of_job,
)
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .task_jobs import TaskJob, pod_base, pod_prefix
from .task_state import is_starting, lost_its_pods

__all__ = ["outcome_from_events", "task_events", "telling_events"]

_logger = logging.getLogger(__name__)

#: The most Pods of which a list of tasks reads all events: each costs a request.
MOST_PODS: Final = 100


async def task_events(
    client: KubernetesClient, namespace: str, job: JobView, pods: Sequence[PodView]
) -> tuple[EventView, ...]:
    """Read the events of a Job, of its ``pods``, and of those that are gone.

    Raises:
        ApiError: they cannot be read.
    """

    about = partial(client.list_events, namespace)
    of_job = await about(f"involvedObject.uid={job.metadata.uid}")
    gone = gone_pods(of_job, (pod.metadata.name for pod in pods))
    found = await asyncio.gather(
        *(about(f"involvedObject.uid={pod.metadata.uid}") for pod in pods),
        *(about(f"involvedObject.kind=Pod,involvedObject.name={name}") for name in gone),
    )
    return tuple(event for events in (of_job, *found) for event in events)


async def outcome_from_events(
    outcome: Outcome, client: KubernetesClient, namespace: str, job: JobView | None, pods: Sequence[PodView]
) -> Outcome:
    """The same outcome, or what events tell of the end of a Job whose Pods are gone.

    So it is for a worker that takes an ended Job over: the Pod whose end the worker before has
    seen may be gone by then, and one execution is not reported to two different ends.
    """
    failure = job.condition("Failed") if job is not None else None
    if job is None or failure is None or not is_unexplained(outcome, pods):
        return outcome
    try:
        events = await task_events(client, namespace, job, pods)
    except ApiError as error:
        _logger.debug("The events of Job %s cannot be read: %s", job.metadata.name, error)
        return outcome
    return explain_failure(failure, pods, events)


async def telling_events(
    client: KubernetesClient,
    namespace: str,
    tasks: Sequence[tuple[TaskJob, Sequence[PodView]]],
    policy: ObservationPolicy,
) -> Mapping[str, Sequence[EventView]]:
    """Read the events without which a list of ``tasks`` would be wrong, by the names of their Jobs.

    Those are of the last Pods of Jobs whose Pods are gone, and of Pods whose start is warned of. A
    list of healthy tasks costs one request more at most. What cannot be read is left out.
    """
    found: dict[str, list[EventView]] = defaultdict(list)
    lost = [job for job, pods in tasks if lost_its_pods(job, pods)]
    starting = {
        pod.identity: job.metadata.name for job, pods in tasks for pod in pods if is_starting(pod, policy)
    }
    try:
        for job, events in (await _of_lost(client, namespace, lost)).items() if lost else ():
            found[job] += events
        for uid, events in (await _of_warned(client, namespace, starting)).items() if starting else ():
            found[starting[uid]] += events
    except ApiError as error:
        _logger.debug("Events cannot be read: %s", error)
    return found


async def _of_lost(
    client: KubernetesClient, namespace: str, lost: Sequence[JobView]
) -> Mapping[str, list[EventView]]:
    """Which Pods those Jobs had, and all events of the last one where one tells why it is gone."""
    created = await client.list_events(namespace, "involvedObject.kind=Job,reason=SuccessfulCreate")
    of_jobs: dict[str | None, list[EventView]] = defaultdict(list)
    for event in created:
        of_jobs[event.involved_object.uid if event.involved_object else None].append(event)
    disrupted = await _disrupted(client, namespace)
    wanted: dict[str, list[str]] = {}
    for job in lost:
        last = pods_of_job(of_jobs[job.metadata.uid])[-1:]
        those = last or disrupted.get(pod_prefix(job.metadata.name), ())
        wanted[job.metadata.name] = [name for name in those if name in disrupted.get(pod_base(name), ())]
    names = [name for pods in wanted.values() for name in pods]
    told = await _about(client, namespace, "involvedObject.kind=Pod,involvedObject.name", names)
    return {
        job.metadata.name: [
            *of_jobs[job.metadata.uid],
            *(event for name in wanted[job.metadata.name] for event in told.get(name, ())),
        ]
        for job in lost
    }


async def _disrupted(client: KubernetesClient, namespace: str) -> Mapping[str, Collection[str]]:
    """The names of the Pods of which an event tells why they are gone, by what these hold of their Jobs'."""
    about = "involvedObject.kind=Pod,reason="
    lists = await asyncio.gather(
        *(client.list_events(namespace, about + reason) for reason in DISRUPTION_EVENTS)
    )
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for event in (event for events in lists for event in events):
        if event.involved_object is not None and event.involved_object.name:
            found[pod_base(event.involved_object.name)][event.involved_object.name] = None
    return found


async def _of_warned(
    client: KubernetesClient, namespace: str, uids: Iterable[str]
) -> Mapping[str, list[EventView]]:
    """All events of those Pods that have a warning among them: what came after it counts as well."""
    warnings = await client.list_events(namespace, "involvedObject.kind=Pod,type=Warning")
    warned = {event.involved_object.uid for event in warnings if event.involved_object}
    return await _about(client, namespace, "involvedObject.uid", [uid for uid in uids if uid in warned])


async def _about(
    client: KubernetesClient, namespace: str, field: str, values: Iterable[str]
) -> Mapping[str, list[EventView]]:
    """The events about the objects of which ``field`` has one of these values, by it."""
    asked = list(dict.fromkeys(values))[:MOST_PODS]
    lists = await asyncio.gather(*(client.list_events(namespace, f"{field}={value}") for value in asked))
    return dict(zip(asked, lists, strict=True))
