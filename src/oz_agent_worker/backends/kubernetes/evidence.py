"""A bundle of all that the cluster holds of a task: to read later, or to send to somebody.

Collected when a person asks for it, and kept by itself for failed tasks where the
configuration names a folder, because the Job's TTL and the node take the rest away.
"""

import asyncio
import gzip
import io
import logging
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from . import rest
from .api_errors import ApiError
from .client import KubernetesClient
from .explain import Facts, explain
from .inspected import TASK_JOBS, TaskJob
from .inspection import pods_selector
from .joblog import LogTail
from .letter import letter
from .ownership import OwnedPod
from .patience import ObservationPolicy
from .redaction import Redactor, redacted
from .rest import EVENTS, PODS
from .views import EventView

__all__ = ["EvidenceCollector", "EvidenceKeeper", "EvidenceSettings", "bundle", "write_private"]

_logger = logging.getLogger(__name__)

SUFFIX: Final = ".tar.gz"


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of the API, whole."""

    raw: Mapping[str, Any]

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"].get("uid", ""))

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])


class EvidenceCollector:
    """Collects the evidence of tasks in one namespace."""

    def __init__(self, client: KubernetesClient, namespace: str, policy: ObservationPolicy) -> None:
        self._client = client
        self._namespace = namespace
        self._policy = policy

    async def collect(self, job_name: str) -> bytes:
        """Return the bundle of a Job: its explanation, spec, status and events, its Pods and their logs.

        What cannot be read besides the Job itself is named in the bundle, and left out.

        Raises:
            ApiError: the Job cannot be read.
        """
        problems: list[str] = []
        job = _Object(await self._read(rest.get(TASK_JOBS, self._namespace, job_name)))
        pods = [
            pod
            for pod in await self._list(PODS, problems, label_selector=pods_selector(job_name))
            if _owner(pod) in ("", job.uid)
        ]
        events: list[_Object] = []
        for uid in (job.uid, *(pod.uid for pod in pods)):
            events += await self._list(EVENTS, problems, field_selector=f"involvedObject.uid={uid}")
        logs = [log for pod in pods for log in await self._logs(pod, problems)]
        return bundle(_files(job, pods, events, logs, problems, self._policy))

    async def _read(self, request: rest.Request) -> dict[str, Any]:
        answer = await self._client.exchange(request)
        return rest.decode(request, answer.body, _RAW)

    async def _list(
        self, resource: rest.Resource[Any], problems: list[str], **selectors: str
    ) -> list[_Object]:
        try:
            page = await self._read(rest.list_page(resource, self._namespace, limit=500, **selectors))  # type: ignore[arg-type]
        except ApiError as error:
            problems.append(f"{resource.plural} could not be read: {error}")
            return []
        return [_Object(item) for item in page.get("items") or ()]

    async def _logs(self, pod: _Object, problems: list[str]) -> list[tuple[str, LogTail]]:
        found: list[tuple[str, LogTail]] = []
        for container in _containers_that_ran(pod.raw):
            try:
                tail = await self._client.read_log(self._namespace, pod.name, container, timestamps=True)
            except ApiError as error:
                problems.append(f"the log of {pod.name}, container {container}, could not be read: {error}")
            else:
                found.append((f"logs/{pod.name}/{container}.log", tail))
        return found


_RAW: Final = msgspec.json.Decoder(dict[str, Any])
