"""Collects what the cluster holds of a task into a bundle, to read later or to send to somebody.

``collect`` does so when a person asks. With ``evidence_dir`` the worker keeps a bundle of each failed
task, because the Job's TTL and the loss of a node destroy the evidence.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.api.rest import EVENTS, JOBS, PODS
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.failure import gone_pods
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .bundle import ContainerLog, TaskEvidence, bundle, evidence_files
from .inspector import pods_selector

__all__ = ["EvidenceCollector", "EvidenceKeeper", "EvidenceSettings", "write_private"]

_logger = logging.getLogger(__name__)

_SUFFIX: Final = ".tar.gz"
_MOMENT: Final = "%Y%m%dT%H%M%SZ"
#: How much the clocks of worker and API server may differ.
_CLOCK_SKEW: Final = timedelta(seconds=60)
_RAW: Final = msgspec.json.Decoder(dict[str, Any])


class EvidenceCollector:
    """Collects the evidence of tasks in one namespace."""

    def __init__(self, client: KubernetesClient, namespace: str, policy: ObservationPolicy) -> None:
        self._client = client
        self._namespace = namespace
        self._policy = policy

    async def collect(self, job_name: str, outcome: Outcome | None = None) -> bytes:
        """Return the bundle of a Job: its explanation, spec, status and events, its Pods and their logs.

        ``outcome`` is what the worker reports, if that is known. The bundle names what could not be
        read.

        Raises:
            ApiError: the Job cannot be read.
        """
        problems: list[str] = []
        job = await self._read(rest.get(JOBS, self._namespace, job_name))
        uid = job["metadata"].get("uid")
        found = await self._list(PODS, problems, label_selector=pods_selector(job_name))
        views = {pod["metadata"]["name"]: msgspec.convert(pod, PodView) for pod in found}
        pods = [pod for pod in found if views[pod["metadata"]["name"]].job_uid in (None, uid)]
        events = await self._events(job, pods, problems)
        logs = [log for pod in pods for log in await self._logs(views[pod["metadata"]["name"]], problems)]
        evidence = TaskEvidence(
            job=job,
            pods=pods,
            events=events,
            logs=logs,
            problems=problems,
            now=datetime.now(UTC),
            policy=self._policy,
            outcome=outcome,
        )
        return await asyncio.to_thread(lambda: bundle(job_name, evidence_files(evidence), evidence.now))

    async def _events(
        self, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], problems: list[str]
    ) -> list[dict[str, Any]]:
        """Read the events of the Job, of its Pods, and of its deleted Pods."""
        found: list[dict[str, Any]] = []
        for about in (job, *pods):
            selector = f"involvedObject.uid={about['metadata'].get('uid')}"
            found += await self._list(EVENTS, problems, field_selector=selector)
        views = (msgspec.convert(event, EventView) for event in found)
        for name in gone_pods(views, (pod["metadata"]["name"] for pod in pods)):
            selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
            found += await self._list(EVENTS, problems, field_selector=selector)
        return found

    async def _read(self, request: rest.Request) -> dict[str, Any]:
        answer = await self._client.exchange(request)
        return rest.decode(request, answer.body, _RAW)

    async def _list(
        self,
        resource: rest.Resource[Any],
        problems: list[str],
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[dict[str, Any]]:
        request = rest.list_page(
            resource, self._namespace, label_selector=label_selector, field_selector=field_selector, limit=500
        )
        try:
            page = await self._read(request)
        except ApiError as error:
            problems.append(f"{resource.plural}: {error}")
            return []
        return list(page.get("items") or ())

    async def _logs(self, pod: PodView, problems: list[str]) -> list[ContainerLog]:
        """Read the logs of all containers that ran."""
        name, found = pod.metadata.name, list[ContainerLog]()
        for container in (c.name for c in pod.all_container_statuses if c.has_started):
            try:
                tail = await self._client.read_log(self._namespace, name, container, timestamps=True)
            except ApiError as error:
                problems.append(f"log of {name}, container {container}: {error}")
            else:
                found.append(ContainerLog(name, container, tail))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """How many bundles are kept, and how long collecting may take.

    The newest ``keep`` bundles stay, ``keep_bytes`` together at most. Collecting a bundle may take
    ``patience`` seconds, waiting for others included; ``at_once`` are collected at a time.
    """

    keep: int = 100
    keep_bytes: int = 256 * 1024 * 1024
    patience: float = 30.0
    at_once: int = 2


class EvidenceKeeper:
    """Keeps the evidence of failed tasks in a folder; a failure to do so is logged, and nothing else.

    ``collect`` makes the bundle of a Job (``EvidenceCollector.collect``).
    """

    def __init__(
        self,
        collect: Callable[[str, Outcome], Awaitable[bytes]],
        folder: Path,
        settings: EvidenceSettings | None = None,
    ) -> None:
        self._collect = collect
        self._folder = folder
        self._settings = settings or EvidenceSettings()
        self._places = asyncio.Semaphore(self._settings.at_once)

    async def keep(self, job_name: str, outcome: Outcome, *, ended_before: str | None = None) -> None:
        """Collect and write the bundle of a failed Job; remove the oldest bundles if there are too many.

        ``ended_before`` is when the Job ended (RFC 3339), if an earlier worker followed it: a bundle
        kept since then is of this end, and no second one is written.
        """
        try:
            async with asyncio.timeout(self._settings.patience), self._places:
                if ended_before is not None and await asyncio.to_thread(self._has, job_name, ended_before):
                    _logger.debug("The evidence of Job %s is kept already", job_name)
                    return
                content = await self._collect(job_name, outcome)
                path = await asyncio.to_thread(self._write, job_name, content)
        except TimeoutError:
            _logger.warning(
                "The evidence of Job %s could not be collected in %g s", job_name, self._settings.patience
            )
        except (ApiError, OSError, msgspec.MsgspecError) as error:
            _logger.warning("The evidence of Job %s could not be kept: %s", job_name, error)
        else:
            _logger.info("The evidence of Job %s is kept in %s", job_name, path)

    def _has(self, job_name: str, ended: str) -> bool:
        """Whether a bundle was kept after the Job ended; an older one is of an earlier Job of the name."""
        since = datetime.fromisoformat(ended) - _CLOCK_SKEW
        kept = (_kept_at(path.name, job_name) for path in self._folder.glob(f"{job_name}-*{_SUFFIX}"))
        return any(moment is not None and moment >= since for moment in kept)

    def _write(self, job_name: str, content: bytes) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{job_name}-{datetime.now(UTC).strftime(_MOMENT)}{_SUFFIX}"
        write_private(path, content)
        self._prune()
        return path

    def _prune(self) -> None:
        """Remove the oldest bundles; nothing else in the folder is touched."""
        bundles = [(path.stat(), path) for path in self._folder.glob(f"oz-task-*{_SUFFIX}")]
        bundles.sort(key=lambda bundle: (bundle[0].st_mtime_ns, bundle[1].name), reverse=True)
        size = 0
        for number, (status, path) in enumerate(bundles):
            size += status.st_size
            if number >= self._settings.keep or (number > 0 and size > self._settings.keep_bytes):
                path.unlink(missing_ok=True)


def _kept_at(file: str, job_name: str) -> datetime | None:
    """Return when a bundle of the Job was kept, from its file name; ``None`` if it is another Job's."""
    moment = file.removeprefix(f"{job_name}-").removesuffix(_SUFFIX)
    try:
        return datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None


def write_private(path: Path, content: bytes) -> None:
    """Write a file, readable by its owner alone; on an error no file is left.

    Raises:
        OSError: it cannot be written.
    """
    # mkstemp creates the file with mode 0600.
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise
