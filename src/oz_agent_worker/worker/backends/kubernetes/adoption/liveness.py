"""Finds out whether the workers that own Jobs are alive; asks rarely, however many Jobs one owns."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
from oz_agent_worker.worker.clock_skew import parse_http_date

from .decision import Liveness, process_liveness
from .instance import Instance, Machine, PodInstance, ProcessInstance, parse_instance
from .self_identity import process_started

__all__ = ["AdoptionQueries", "LivenessSettings", "OwnerLiveness", "ServerClock"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessSettings:
    """After how many seconds an owner is looked up again.

    An owner that is alive: after ``first``, then later each time, up to ``longest``. One whose Pod is
    being deleted: after ``ending``. One whose Pod may not be read: after ``refused``; such a refusal
    counts once it has lasted ``refusal_patience`` seconds.
    """

    first: float = 3.0
    longest: float = 15.0
    ending: float = 1.0
    refused: float = 60.0
    refusal_patience: float = REFUSAL_PATIENCE


class ServerClock:
    """The API server's time, from the ``Date`` of its answers; this machine's until there was one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._epoch: datetime | None = None

    @property
    def known(self) -> bool:
        """Whether an answer of the server had a date."""
        return self._epoch is not None

    def update(self, date: str | None) -> None:
        """Take the ``Date`` (RFC 9110, 6.6.1) of an answer that has just come; ignore what is no date."""
        parsed = parse_http_date(date)
        if parsed is not None:
            self._epoch = parsed - timedelta(seconds=self._clock())

    def now(self) -> datetime:
        """Return the server's time, to the second."""
        if self._epoch is None:
            return datetime.now(UTC)
        return self._epoch + timedelta(seconds=self._clock())


@dataclass(slots=True)
class _LookUp:
    """The result of a look-up (``None``: it failed), and when and after what pause the next is due."""

    liveness: Liveness | None
    due_at: float
    pause: float


class OwnerLiveness:
    """Looks up the owners of Jobs. ``own`` is this worker; ``clock`` gives seconds, never backwards."""

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
        self._own = str(own)
        self._machine = machine
        self._clock = clock
        self._server_clock = server_clock
        self._settings = settings or LivenessSettings()
        self._results: dict[str, _LookUp] = {}
        self._refused: set[str] = set()
        self._refusal_periods: dict[str, GracePeriod] = {}

    def last_known(self, owner: str | None) -> Liveness | None:
        """Return what the last look-up of an owner found; ``None`` if there was none."""
        if owner == self._own:
            return Liveness.SELF
        result = self._results.get(owner or "")
        return result.liveness if result is not None else None

    def due_at(self, owner: str | None) -> float:
        """Return when to look an owner up again; never if it is gone."""
        if owner == self._own:
            return math.inf
        result = self._results.get(owner or "")
        return result.due_at if result is not None else -math.inf

    def keep_only(self, owners: set[str | None]) -> None:
        """Forget the owners that are not in ``owners``: they have no Jobs to adopt."""
        kept = {owner or "" for owner in owners}
        self._results = {owner: result for owner, result in self._results.items() if owner in kept}

    async def look_up(self, owner: str | None) -> Liveness:
        """Look up an owner now, even if the next look-up is not due.

        Raises:
            ApiError: the API server cannot be asked; the last result stays.
        """
        known = self.last_known(owner)
        if known in (Liveness.SELF, Liveness.GONE):
            return known
        liveness, pause = Liveness.UNKNOWN, math.inf
        match parse_instance(owner):
            case PodInstance() as pod:
                liveness, pause = await self._look_up_pod(owner or "", pod)
            case ProcessInstance() as process:
                liveness = process_liveness(process, self._machine, process_started(process.pid))
                pause = self._next_pause(owner or "") if liveness is Liveness.ALIVE else math.inf
        self._results[owner or ""] = _LookUp(liveness, self._clock() + pause, pause)
        return liveness

    def _next_pause(self, owner: str) -> float:
        """Return the seconds until an owner that is alive is looked up again: longer each time."""
        before = self._results.get(owner)
        if before is None or before.liveness is not Liveness.ALIVE:
            return self._settings.first
        return max(self._settings.first, min(self._settings.longest, 2 * before.pause))

    async def _look_up_pod(self, owner: str, pod: PodInstance) -> tuple[Liveness, float]:
        """Look up a worker's Pod; return its liveness, and the seconds until the next look-up."""
        request = rest.get(PODS, pod.namespace, pod.name)
        # An API server that has just started may refuse for a moment what it will allow.
        refusals = self._refusal_periods.setdefault(
            pod.namespace, GracePeriod(self._settings.refusal_patience, self._clock)
        )
        try:
            answer = await self._client.exchange(request)
            found = rest.decode(request, answer.body, PODS.decoder)
        except NotFoundError:
            refusals.reset()
            return Liveness.GONE, math.inf
        except ApiError as error:
            if error.transient or refusals.covers(error):
                first = self._settings.first
                self._results[owner] = _LookUp(self.last_known(owner), self._clock() + first, first)
                raise
            if pod.namespace not in self._refused:
                self._refused.add(pod.namespace)
                forbidden = isinstance(error, ForbiddenError)
                hint = f" (grant pods: get in namespace {pod.namespace})" if forbidden else ""
                _logger.warning(
                    "the worker cannot see whether other workers with its ID are alive%s: %s", hint, error
                )
            return Liveness.UNKNOWN, self._settings.refused
        refusals.reset()
        self._server_clock.update(answer.date)
        if found.metadata.uid != pod.uid or found.has_ended:
            return Liveness.GONE, math.inf
        ending = found.metadata.deletion_timestamp is not None
        return Liveness.ALIVE, self._settings.ending if ending else self._next_pause(owner)


class AdoptionQueries:
    """What adoption asks the API server beside the owners: its time, and whether a Secret exists.

    Only adoption asks; a task of the worker's own costs no such request. ``clock`` gives seconds and
    never runs backwards. A missing permission counts once it has lasted ``patience`` seconds.
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
        self.server_clock = server_clock
        self._client = client
        self._namespace = namespace
        self._selector = label_selector
        self._refusals = GracePeriod(patience, clock)

    async def read_clock(self) -> None:
        """Update ``server_clock`` by a request that the worker is certainly allowed.

        Raises:
            ApiError: the API server cannot be asked.
        """
        answer = await self._client.exchange(
            rest.list_page(JOBS, self._namespace, label_selector=self._selector, limit=1)
        )
        self.server_clock.update(answer.date)

    async def secret_exists(self, job: JobView) -> bool:
        """Return whether the Secret that a Job names exists; true if it names none.

        The worker may create Secrets and not read them: a creation as a dry run conflicts with an
        existing name. Where even that stays refused, the Secret counts as existing.

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
            exists = True
        except ApiError as error:
            if error.transient or self._refusals.covers(error):
                raise
            return True
        else:
            exists = False
        self._refusals.reset()
        return exists
