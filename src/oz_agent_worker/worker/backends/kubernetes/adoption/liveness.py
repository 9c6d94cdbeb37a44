"""Do the workers that own Jobs still exist? Each is asked about rarely, however many Jobs it has."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    AlreadyExistsError,
    ApiError,
    ForbiddenError,
    NotFoundError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS, PODS, SECRETS
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, GracePeriod
from oz_agent_worker.worker.backends.kubernetes.objects import JobView

from .decision import Liveness, process_liveness
from .instance import Instance, Machine, PodInstance, ProcessInstance, parse_instance
from .self_identity import process_started

__all__ = ["AdoptionQueries", "LivenessSettings", "OwnerLiveness", "ServerClock"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessSettings:
    """After how many seconds an owner is looked for again.

    One that is alive after ``first``, then ever later up to ``longest``; one whose Pod is
    being ended after ``ending``; one that may not be looked for after ``refused``, which is
    believed once it has been so for ``refusal_patience`` seconds.
    """

    first: float = 3.0
    longest: float = 15.0
    ending: float = 1.0
    refused: float = 60.0
    refusal_patience: float = REFUSAL_PATIENCE


class ServerClock:
    """The API server's time, from the ``Date`` of its answers; this machine's until one was heard."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._epoch: datetime | None = None

    @property
    def heard(self) -> bool:
        """Whether the server has told its time."""
        return self._epoch is not None

    def hear(self, date: str | None) -> None:
        """Take the ``Date`` (RFC 9110, 6.6.1) of an answer that has just come."""
        try:
            told = parsedate_to_datetime(date or "")
        except ValueError:
            return
        told = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
        self._epoch = told - timedelta(seconds=self._clock())

    def now(self) -> datetime:
        """What time it is for the server, to the second."""
        if self._epoch is None:
            return datetime.now(UTC)
        return self._epoch + timedelta(seconds=self._clock())


@dataclass(slots=True)
class _Sighting:
    """What was seen of an owner (``None``: it could not be looked for), and when to look again."""

    liveness: Liveness | None
    again_at: float
    pause: float


class OwnerLiveness:
    """Looks for the owners of Jobs. ``own`` is this worker; ``clock`` gives seconds, never backwards."""

    def __init__(
        self,
        client: KubernetesClient,
        own: Instance,
        machine: Machine,
        *,
        clock: Callable[[], float],
        server_clock: ServerClock,
        settings: LivenessSettings | None = None,
    ) -> None:
        self._client = client
        self._own = own
        self._machine = machine
        self._clock = clock
        self._server_clock = server_clock
        self._settings = settings or LivenessSettings()
        self._seen: dict[str, _Sighting] = {}
        self._refused: set[str] = set()
        self._refusal_periods: dict[str, GracePeriod] = {}

    def known(self, owner: str | None) -> Liveness | None:
        """What an owner was when it was last looked for; ``None`` where it never was."""
        if owner == str(self._own):
            return Liveness.SELF
        seen = self._seen.get(owner or "")
        return seen.liveness if seen is not None else None

    def again_at(self, owner: str | None) -> float:
        """When an owner is to be looked for again; what is gone stays gone."""
        if owner == str(self._own):
            return math.inf
        seen = self._seen.get(owner or "")
        return seen.again_at if seen is not None else -math.inf

    def forget_all_but(self, owners: set[str | None]) -> None:
        """Drop what was seen of owners that have no Jobs any more."""
        kept = {owner or "" for owner in owners}
        self._seen = {owner: seen for owner, seen in self._seen.items() if owner in kept}

    async def look(self, owner: str | None) -> Liveness:
        """Look for an owner, whatever was seen before.

        Raises:
            ApiError: the API server cannot be asked; what was seen before stays.
        """
        known = self.known(owner)
        if known in (Liveness.SELF, Liveness.GONE):
            return known
        before = self._seen.get(owner or "")
        match parse_instance(owner):
            case PodInstance() as pod:
                liveness, pause = await self._pod(owner or "", pod)
            case ProcessInstance() as process:
                started = process_started(process.pid)
                liveness, pause = process_liveness(process, self._machine, started), None
            case None:
                liveness, pause = Liveness.UNKNOWN, None
        if liveness is not Liveness.ALIVE:
            pause = math.inf if pause is None else pause
        elif pause is None:
            pause = self._later(before)
        self._seen[owner or ""] = _Sighting(liveness, self._clock() + pause, pause)
        return liveness

    def _later(self, before: _Sighting | None) -> float:
        """In how many seconds to look again for one that is alive: each time a little later."""
        if before is None or before.liveness is not Liveness.ALIVE:
            return self._settings.first
        return max(self._settings.first, min(self._settings.longest, 2 * before.pause))

    async def _pod(self, owner: str, pod: PodInstance) -> tuple[Liveness, float | None]:
        """Look for a Pod; return what became of it, and when to look again where that is special."""
        request = rest.get(PODS, pod.namespace, pod.name)
        try:
            answer = await self._client.exchange(request)
            found = rest.decode(request, answer.body, PODS.decoder)
        except NotFoundError:
            self._refusal_period(pod.namespace).reset()
            return Liveness.GONE, None
        except ApiError as error:
            if error.transient or self._refusal_period(pod.namespace).covers(error):
                known = self._seen.get(owner)
                again_at = self._clock() + self._settings.first
                self._seen[owner] = _Sighting(
                    known.liveness if known else None, again_at, self._settings.first
                )
                raise
            self._note_refusal(pod.namespace, error)
            return Liveness.UNKNOWN, self._settings.refused
        self._refusal_period(pod.namespace).reset()
        self._server_clock.hear(answer.date)
        if found.metadata.uid != pod.uid or found.has_ended:
            return Liveness.GONE, None
        ending = found.metadata.deletion_timestamp is not None
        return Liveness.ALIVE, self._settings.ending if ending else None

    def _refusal_period(self, namespace: str) -> GracePeriod:
        """How long a refusal to read Pods in a namespace may still pass."""
        return self._refusal_periods.setdefault(
            namespace, GracePeriod(self._settings.refusal_patience, self._clock)
        )

    def _note_refusal(self, namespace: str, error: ApiError) -> None:
        if namespace not in self._refused:
            self._refused.add(namespace)
            hint = f" (grant pods: get in namespace {namespace})" if isinstance(error, ForbiddenError) else ""
            _logger.warning(
                "the worker cannot see whether other workers of its ID are alive%s: %s", hint, error
            )


class AdoptionQueries:
    """Asks about ``namespace``. Only a take-over asks; no task costs a request of these.

    ``clock`` gives seconds, and never runs backwards; a missing permission is believed once it has
    been so for ``patience`` seconds of it.
    """

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        label_selector: str,
        server_clock: ServerClock,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = REFUSAL_PATIENCE,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = label_selector
        self._server_clock = server_clock
        self._refusals = GracePeriod(patience, clock)

    async def read_clock(self) -> None:
        """Have the server's clock known, through a request that the worker is certainly allowed.

        Raises:
            ApiError: the API server cannot be asked.
        """
        answer = await self._client.exchange(
            rest.list_page(JOBS, self._namespace, label_selector=self._selector, limit=1)
        )
        self._server_clock.hear(answer.date)

    async def secret_stands(self, job: JobView) -> bool:
        """Whether the Secret that a Job names is there.

        The worker may create Secrets and not read them: a creation as a dry run meets the
        name, or does not. Where that is refused, and stays so, the Secret counts as there.

        Raises:
            ApiError: the API server cannot be asked.
        """
        name = job.metadata.annotations.environment_secret if job.metadata.annotations else None
        if name is None:
            return True
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        try:
            await self._client.exchange(rest.create(SECRETS, self._namespace, manifest, dry_run=True))
        except AlreadyExistsError:
            self._refusals.reset()
            return True
        except ApiError as error:
            if error.transient or self._refusals.covers(error):
                raise
            return True
        self._refusals.reset()
        return False
