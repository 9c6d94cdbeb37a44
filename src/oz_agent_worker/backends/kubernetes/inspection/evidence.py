"""All that the cluster holds of a task, collected: to read later, or to send to somebody.

A person asks for it; and for failed tasks it is kept by itself where the configuration
names a folder, because the Job's TTL and the loss of a node take it away.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from oz_agent_worker.backends.kubernetes.api import rest
from oz_agent_worker.backends.kubernetes.api.api_errors import ApiError
from oz_agent_worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.backends.kubernetes.api.rest import EVENTS, JOBS, PODS
from oz_agent_worker.backends.kubernetes.judgement.patience import ObservationPolicy
from oz_agent_worker.core.outcome import Outcome

from .bundle import ContainerLog, Evidence, bundle
from .inspector import pods_selector

__all__ = ["EvidenceCollector", "EvidenceKeeper", "EvidenceSettings", "write_private"]

_logger = logging.getLogger(__name__)

_SUFFIX: Final = ".tar.gz"
_RAW: Final = msgspec.json.Decoder(dict[str, Any])


class EvidenceCollector:
    """Collects the evidence of tasks in one namespace."""

    def __init__(self, client: KubernetesClient, namespace: str, policy: ObservationPolicy) -> None:
        self._client = client
        self._namespace = namespace
        self._policy = policy

    async def collect(self, job_name: str, outcome: Outcome | None = None) -> bytes:
        """Return the bundle of a Job: its explanation, spec, status and events, its Pods and their logs.

        ``outcome`` is what the worker reports, where that is known. What cannot be read besides
        the Job itself is named in the bundle, and left out.

        Raises:
            ApiError: the Job cannot be read.
        """
        problems: list[str] = []
        job = await self._read(rest.get(JOBS, self._namespace, job_name))
        uid = job["metadata"].get("uid")
        found = await self._list(PODS, problems, label_selector=pods_selector(job_name))
        pods = [pod for pod in found if _controller(pod) in (None, uid)]
        events: list[dict[str, Any]] = []
        for about in (job, *pods):
            selector = f"involvedObject.uid={about['metadata'].get('uid')}"
            events += await self._list(EVENTS, problems, field_selector=selector)
        logs = [log for pod in pods for log in await self._logs(pod, problems)]
        evidence = Evidence(
            job=job,
            pods=pods,
            events=events,
            logs=logs,
            problems=problems,
            now=datetime.now(UTC),
            policy=self._policy,
            outcome=outcome,
        )
        return await asyncio.to_thread(bundle, job_name, evidence)

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

    async def _logs(self, pod: Mapping[str, Any], problems: list[str]) -> list[ContainerLog]:
        name: str = pod["metadata"]["name"]
        found: list[ContainerLog] = []
        for container in _containers_that_ran(pod):
            try:
                tail = await self._client.read_log(self._namespace, name, container, timestamps=True)
            except ApiError as error:
                problems.append(f"log of {name}, container {container}: {error}")
            else:
                found.append(ContainerLog(name, container, tail))
        return found


def _controller(pod: Mapping[str, Any]) -> str | None:
    labels = pod["metadata"].get("labels") or {}
    return labels.get("batch.kubernetes.io/controller-uid") or labels.get("controller-uid")


def _containers_that_ran(pod: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or ():
            state = container.get("state") or {}
            if "running" in state or "terminated" in state:
                yield container["name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """``keep`` bundles of at most ``keep_bytes`` together stay, the newest of them.

    A bundle may take ``patience`` seconds, those included in which others are collected:
    ``at_once`` of them at a time.
    """

    keep: int = 100
    keep_bytes: int = 256 * 1024 * 1024
    patience: float = 30.0
    at_once: int = 2


class EvidenceKeeper:
    """Keeps the evidence of failed tasks in a folder; that it cannot is a warning, and nothing else.

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

    async def keep(self, job_name: str, outcome: Outcome) -> None:
        """Collect and write the bundle of a failed Job, and remove the oldest where there are too many."""
        try:
            async with asyncio.timeout(self._settings.patience), self._places:
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

    def _write(self, job_name: str, content: bytes) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._folder / f"{job_name}-{moment}{_SUFFIX}"
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


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    # mkstemp makes a file of mode 0600.
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise
