"""The Kubernetes backend: each task a Job, one watch for all Jobs and one for all their Pods."""

import asyncio
import contextlib
import functools
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from oz_agent_worker.common.aio import cancel_and_wait, ends_before
from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.assignment import AssignmentError, TaskTooLargeError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, failed
from oz_agent_worker.worker.backends.base import AdoptableExecution, LaunchError, OutputSink, too_large
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.events import EventKind, Notify, TaskEvent, WatchStatus, ignore_event
from oz_agent_worker.worker.task_spec import TaskSpec

from .adoption.adoption import Adoption
from .adoption.decision import AdoptionPolicy
from .adoption.liveness import AdoptionQueries, LivenessSettings, OwnerLiveness, ServerClock
from .adoption.self_identity import own_instance, this_machine
from .api.client import ClientSettings, KubernetesClient
from .api.credentials import load_credentials
from .api.errors import ApiError
from .api.stats import ApiStats
from .event_reader import EventReader, EventSettings
from .execution import ExecutionContext, KubernetesExecution
from .inspection.evidence import EvidenceCollector, EvidenceKeeper, EvidenceSettings
from .job_creation import CreatedJob, JobLookup, create_or_adopt
from .log_follower import LogFollowers, LogSettings
from .manifest.job import JobPlan, plan_job
from .manifest.naming import job_name, label_selector
from .objects import JobView
from .preflight.permissions import explain_error
from .preflight.preflight import Preflight, PreflightSettings
from .quota_wait import QuotaWait, created_when_there_is_room
from .secret_creation import create_environment_secret
from .status.job_state import end_condition
from .status.policy import ObservationPolicy, observation_policy
from .watch.job_index import JobIndex
from .watch.monitor import JobMonitor
from .watch.reflector import WatchSettings

__all__ = ["BackendSettings", "KubernetesBackend"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """The backend's settings; times are in seconds.

    - ``patience``: how long ``start`` retries.
    - ``check_every``: how often the Jobs in flight are compared with the API server's cache.
    - ``observation``: how long problems may last; what has a config key comes from the config.
    - ``preflight``: ``None`` skips it: ``start`` then shows only that Jobs and Pods can be watched.
    - ``adoption``, ``owners``: when the Jobs of earlier workers are adopted.
    - ``precedence``: how long another worker that adopted the same Job has to report first why it
      deleted the Job.
    """

    patience: float = 10.0
    check_every: float = 30.0
    observation: ObservationPolicy = field(default_factory=ObservationPolicy)
    events: EventSettings = field(default_factory=EventSettings)
    preflight: PreflightSettings | None = field(default_factory=PreflightSettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    precedence: float = 30.0
    adoption: AdoptionPolicy = field(default_factory=AdoptionPolicy)
    owners: LivenessSettings = field(default_factory=LivenessSettings)


class KubernetesBackend:
    """Runs executions as Jobs in ``config.namespace``; see ``backends.base.Backend``.

    Jobs outlive the worker: ``close`` leaves them alone. ``stats`` counts the requests to
    the API server from the first on. ``clock`` gives seconds, and never runs backwards.
    """

    name = "kubernetes"
    survives_worker = True

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        worker_id: str,
        cleanup: bool,
        environ: Mapping[str, str],
        settings: BackendSettings | None = None,
        notify: Notify = ignore_event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = ApiStats(notify=notify)
        self._notify = notify
        self._config = config
        self._worker_id = worker_id
        self._cleanup = cleanup
        self._environ = environ
        self._settings = settings or BackendSettings()
        self._clock = clock
        # In a burst, manifests are made only as fast as they can be sent: thousands of them in the queue
        # would set the peak of memory.
        self._launches = asyncio.Semaphore(4 * self._settings.client.in_flight)
        self._context: ExecutionContext | None = None
        self._monitor: JobMonitor | None = None
        self._adoption: Adoption | None = None
        self._instance: str | None = None

    @property
    def instance(self) -> str | None:
        """This worker process, as its Jobs name their owner; ``None`` before ``start``."""
        return self._instance

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Reach the API server, run the preflight, start the watches, and pass Jobs to adopt to ``found``.

        Raises:
            CredentialsError: no usable kubeconfig or service account.
            PreflightError: the API server cannot be reached, or a task could not run in this
                namespace; the text is a diagnosis.
        """
        credentials = load_credentials(self._config.kubeconfig, environ=self._environ)
        client = KubernetesClient(credentials, settings=self._settings.client, stats=self.stats)
        await client.open()
        self._context = self._new_context(client, JobIndex())
        self._monitor = JobMonitor(
            client,
            self._context.index,
            self._config.namespace,
            label_selector(self._worker_id),
            check_every=self._settings.check_every,
            settings=self._settings.watch,
        )
        try:
            await self._preflight(client, self._context.policy)
            await self._monitor.start(self._settings.patience)
            self._adoption = await self._begin_adoption(self._context, found)
        except ApiError as error:
            await self.close()
            raise PreflightError(str(explain_error(error, credentials, self._config))) from error
        except BaseException:
            await self.close()
            raise
        _logger.info("Kubernetes API server %s (%s)", credentials.server, credentials.description)

    async def launch(
        self, spec: TaskSpec, output: OutputSink, cancelled: asyncio.Event | None = None
    ) -> KubernetesExecution:
        """Create the execution's Job, or adopt the one that exists; one request in the usual case.

        A second request creates the Secret of its variables, where the configuration asks for one.
        Where a quota has no room for either, this waits as long as a Pod waits for room.

        Raises:
            LaunchError: with an outcome where no Job can be made of the task or the API server
                refuses it; without one where the API server cannot be reached or refuses for now, or
                the task was cancelled.
            OwnedByAnotherWorkerError: the Job is another worker's.
        """
        context, adoption = self._context, self._adoption
        if context is None or adoption is None:
            raise LaunchError("the Kubernetes backend is not started")
        lookup = JobLookup(context.index.job, adoption.objection)
        given_up = cancelled or asyncio.Event()

        async def create() -> CreatedJob:
            async with self._place(given_up):
                plan = self._plan(spec)
                created = await create_or_adopt(context.client, plan, lookup, given_up)
                await create_environment_secret(context.client, plan, created, given_up)
            return created

        with adoption.launching(job_name(spec.key)):
            created = await created_when_there_is_room(create, self._quota_wait(context), given_up)
            job = created.job.metadata
            adoption.mark_owned(job.name, job.uid)
        self._notify(TaskEvent(EventKind.JOB_NAMED, spec.key, job.name))
        return KubernetesExecution(
            context, job.name, job.uid or "", created.since, output, adopted=created.adopted
        )

    @contextlib.asynccontextmanager
    async def _place(self, cancelled: asyncio.Event) -> AsyncIterator[None]:
        """Hold one of the places for launches.

        Raises:
            LaunchError: the task was cancelled while it waited for one.
        """
        taking = asyncio.create_task(self._launches.acquire())
        try:
            if not await ends_before(taking, cancelled):
                raise LaunchError("the task was cancelled before its Job was created")
            yield
        finally:
            await cancel_and_wait(taking)
            if not taking.cancelled():
                self._launches.release()

    def _quota_wait(self, context: ExecutionContext) -> QuotaWait:
        def kept() -> list[str]:
            return [job.metadata.name for job in context.index.jobs() if end_condition(job) is not None]

        return QuotaWait(
            namespace=context.namespace,
            timeout=context.policy.unschedulable_timeout,
            kept=kept,
            ttl=self._config.ttl_seconds_after_finished if self._cleanup else None,
        )

    def watches(self) -> Sequence[WatchStatus]:
        """Return the state of the watches of Jobs and Pods."""
        return self._monitor.watch_status() if self._monitor is not None else ()

    async def close(self) -> None:
        """Stop the watches and close the connections; Jobs go on."""
        monitor, self._monitor = self._monitor, None
        context, self._context = self._context, None
        adoption, self._adoption = self._adoption, None
        if adoption is not None:
            await adoption.close()
        if monitor is not None:
            await monitor.close()
        if context is not None:
            await context.events.close()
            await context.log_followers.close()
            await context.client.close()

    async def _preflight(self, client: KubernetesClient, policy: ObservationPolicy) -> None:
        if self._settings.preflight is None:
            return
        preflight = Preflight(
            self._config,
            client=client,
            worker_id=self._worker_id,
            cleanup=self._cleanup,
            policy=policy,
            settings=self._settings.preflight,
            environ=self._environ,
            clock=self._clock,
        )
        await preflight.run()

    async def _begin_adoption(
        self, context: ExecutionContext, found: Callable[[AdoptableExecution], None]
    ) -> Adoption:
        """Find out this process's identity, and adopt the Jobs that earlier workers left."""
        machine = this_machine()
        in_pod = self._config.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in self._environ
        own = await own_instance(context.client, self._environ, machine, own_cluster=in_pod)
        self._instance = str(own)
        server_clock = ServerClock(self._clock)
        adoption = Adoption(
            context.index,
            OwnerLiveness(
                context.client,
                own,
                machine,
                clock=self._clock,
                server_clock=server_clock,
                settings=self._settings.owners,
            ),
            AdoptionQueries(
                context.client,
                context.namespace,
                label_selector(self._worker_id),
                server_clock,
                clock=self._clock,
            ),
            worker_id=self._worker_id,
            policy=self._settings.adoption,
            found=lambda job: _report_found(found, context, job),
            clock=self._clock,
        )
        await adoption.start()
        return adoption

    def _plan(self, spec: TaskSpec) -> JobPlan:
        try:
            return plan_job(
                spec,
                self._config,
                worker_id=self._worker_id,
                cleanup=self._cleanup,
                unique=secrets.token_hex(4),
                owner=self._instance,
            )
        except TaskTooLargeError as error:
            raise LaunchError(str(error), too_large(error)) from error
        except AssignmentError as error:
            outcome = failed(FailureReason.JOB_CREATE, str(error), phase=FailurePhase.ASSIGNMENT)
            raise LaunchError(str(error), outcome) from error

    def _new_context(self, client: KubernetesClient, index: JobIndex) -> ExecutionContext:
        config = self._config
        policy = observation_policy(config, self._settings.observation)
        return ExecutionContext(
            client=client,
            index=index,
            namespace=config.namespace,
            cleanup=self._cleanup,
            policy=policy,
            events=EventReader(
                functools.partial(client.list_events_about, config.namespace),
                clock=self._clock,
                settings=replace(self._settings.events, scale_up=config.scale_up_timeout),
            ),
            clock=self._clock,
            log_followers=LogFollowers(self._settings.logs),
            evidence=self._keeper(client, policy),
            precedence=self._settings.precedence,
            notify=self._notify,
        )

    def _keeper(self, client: KubernetesClient, policy: ObservationPolicy) -> EvidenceKeeper | None:
        folder = self._config.evidence_dir
        if folder is None:
            return None
        collector = EvidenceCollector(client, self._config.namespace, policy)
        return EvidenceKeeper(collector.collect, Path(folder), self._settings.evidence)


def _report_found(
    found: Callable[[AdoptableExecution], None], context: ExecutionContext, job: JobView
) -> None:
    key = job.metadata.key
    assert key is not None, "a Job that names no execution is not adopted"
    found(
        AdoptableExecution(
            key, lambda output: _adopt(context, job, output), ended=end_condition(job) is not None
        )
    )


def _adopt(context: ExecutionContext, job: JobView, output: OutputSink) -> KubernetesExecution:
    """Follow a Job that another worker created, before any list that could miss it began."""
    name, uid = job.metadata.name, job.metadata.uid or ""
    execution = KubernetesExecution(context, name, uid, -math.inf, output, adopted=True)
    watched = context.index.job(name)
    if watched is None or watched.metadata.uid != uid:
        execution.on_delete(job)
    return execution
