"""What ``doctor`` checks of the Kubernetes backend: the preflight's checks and more, one by one."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.api.server_info import (
    OLDEST,
    ServerInfo,
    parse_version,
    read_server_info,
)
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding, explain_api_error
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, observation_policy
from oz_agent_worker.worker.checks import Check, CheckResult, fail, ok, skip, warn
from oz_agent_worker.worker.clock_skew import judge_clock
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .namespace_checks import check_limit_ranges, check_pod_security, check_quotas, is_pod_security
from .owner_permission import OWNER_SIGHT, check_owner_sight, owners_namespace
from .permissions import Grant, Permission, needed_permissions, review, role_rules, summary
from .probe_run import ProbeResult, ProbeRun, ProbeRunSettings, Stage
from .template_check import TemplateCheck, check_template

__all__ = ["KubernetesDoctor"]

T = TypeVar("T")

#: A doctor asks again for a moment only: whoever runs it can run it again.
_PATIENCE: Final = RetryPolicy(budget=3.0, longest=1.0)
_SERVER: Final = "API server"
_NAMESPACE: Final = "namespace"
_TEMPLATE: Final = "task template"
_STAGES: Final = (
    (Stage.ADMITTED, "admission", "the Pod of the preflight Job was admitted"),
    (Stage.SCHEDULED, "scheduling", "a node took it"),
    (Stage.PULLED, "image pull", "its images were pulled"),
    (Stage.ENDED, "preflight Job", "it ran to its end"),
)


class _Once(Generic[T]):
    """Something that several checks look at, and that is found out by the first."""

    def __init__(self, find: Callable[[], Coroutine[None, None, T]]) -> None:
        self._find = find
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Find it out, or return what was found; an error is found once too."""
        if self._task is None:
            self._task = asyncio.create_task(self._find())
        return await self._task


class KubernetesDoctor:
    """The checks of one configuration; an async context manager. ``with_job``: run the preflight Job."""

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        worker_id: str,
        cleanup: bool,
        environ: Mapping[str, str],
        trial: ProbeRunSettings | None = None,
        with_job: bool = True,
    ) -> None:
        self._config = config
        self._worker_id = worker_id
        self._cleanup = cleanup
        self._environ = environ
        self._policy = observation_policy(config, ObservationPolicy())
        self._trial_settings = trial or ProbeRunSettings()
        self._with_job = with_job
        self._stack = AsyncExitStack()
        self._client: KubernetesClient | None = None
        self._permissions = needed_permissions(config)
        self._owners = owners_namespace(config, environ)
        self._server = _Once(self._find_server)
        self._grants = _Once(self._find_grants)
        self._template = _Once(self._find_template)
        self._trial = _Once(self._run_trial)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def checks(self) -> list[Check]:
        """The checks, in the order in which they are shown."""
        permissions = [str(permission) for permission in self._permissions]
        job_needs = (_NAMESPACE, _TEMPLATE, *(name for name in permissions if _needed_by_job(name)))
        return [
            Check("credentials", self._check_credentials),
            Check(_SERVER, self._check_server, ("credentials",)),
            Check("API server's clock", self._check_clock, (_SERVER,)),
            *(
                Check(str(permission), self._permission_check(permission), (_SERVER,))
                for permission in self._permissions
            ),
            *(
                Check(f"{OWNER_SIGHT} ({owners})", self._owner_check(owners), (_SERVER,))
                for owners in (self._owners,)
                if owners is not None
            ),
            Check(_NAMESPACE, self._check_namespace, (_SERVER, "jobs: create")),
            Check(_TEMPLATE, self._check_template, (_NAMESPACE,)),
            Check("Pod Security", self._check_pod_security, (_NAMESPACE,)),
            Check("quotas", self._check_quotas, (_NAMESPACE,)),
            Check("limit ranges", self._check_limit_ranges, (_NAMESPACE,)),
            Check("image volumes", self._check_image_volumes, (_NAMESPACE,)),
            *(Check(name, self._stage_check(stage, said), job_needs) for stage, name, said in _STAGES),
        ]

    # -------------------------------------------------------------------------- the server

    @property
    def _open(self) -> KubernetesClient:
        assert self._client is not None
        return self._client

    async def _check_credentials(self) -> CheckResult:
        credentials = load_credentials(self._config.kubeconfig, environ=self._environ)
        settings = ClientSettings(connect_timeout=5.0, request_timeout=15.0, create=_PATIENCE, read=_PATIENCE)
        self._client = await self._stack.enter_async_context(KubernetesClient(credentials, settings=settings))
        through = f", through {credentials.proxy}" if credentials.proxy is not None else ""
        return ok(credentials.description + through)

    async def _find_server(self) -> ServerInfo:
        return await read_server_info(self._open)

    async def _check_server(self) -> CheckResult:
        credentials = self._open.credentials
        try:
            info = await self._server.get()
        except ApiError as error:
            return _as_failure(
                explain_api_error(
                    error,
                    server=credentials.server,
                    description=credentials.description,
                    namespace=self._config.namespace,
                    permissions=summary(self._permissions),
                )
            )
        version = parse_version(info.version)
        if version is None:
            return ok(f"{credentials.server}; it does not tell its version")
        told = f"{credentials.server}, Kubernetes {info.version}"
        if version < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return warn(f"{told}: native sidecars need {oldest}", f"upgrade the cluster to {oldest} or newer")
        return ok(told)

    async def _check_clock(self) -> CheckResult:
        return judge_clock((await self._server.get()).skew)

    # ------------------------------------------------------------------------- permissions

    async def _find_grants(self) -> dict[Permission, Grant]:
        grants = await review(
            self._open, self._config.namespace, self._permissions, unique=secrets.token_hex(4)
        )
        return {grant.permission: grant for grant in grants}

    def _permission_check(self, permission: Permission) -> Callable[[], Awaitable[CheckResult]]:
        async def check() -> CheckResult:
            grant = (await self._grants.get())[permission]
            if grant.allowed:
                return ok(f"to {permission.purpose}")
            role = f"add to the worker's Role in namespace {self._config.namespace}"
            return fail(grant.words, f"{role}:\n{role_rules([permission])}")

        return check

    def _owner_check(self, namespace: str) -> Callable[[], Awaitable[CheckResult]]:
        return lambda: check_owner_sight(self._open, namespace, unique=secrets.token_hex(4))

    # --------------------------------------------------------------- namespace and template

    async def _find_template(self) -> TemplateCheck:
        return await check_template(
            self._open,
            self._config,
            worker_id=self._worker_id,
            cleanup=self._cleanup,
            unique=secrets.token_hex(4),
        )

    async def _check_namespace(self) -> CheckResult:
        """Existence is told by a creation: a list of what is in no namespace is merely empty."""
        request = rest.create(
            JOBS, self._config.namespace, {"metadata": {"name": "oz-preflight"}}, dry_run=True
        )
        try:
            await self._open.exchange(request)
        except NotFoundError as error:
            return fail(
                error.message,
                f"create it (kubectl create namespace {self._config.namespace}), or correct"
                " backend.kubernetes.namespace",
            )
        except ApiStatusError as error:
            if error.transient or error.code == 401:
                raise
        return ok(self._config.namespace)

    async def _check_template(self) -> CheckResult:
        check = await self._template.get()
        if check.diagnosis is not None:
            return _as_failure(check.diagnosis)
        # What a Pod Security level would say has a check of its own.
        told = [text for text in check.warnings if not is_pod_security(text)]
        if told:
            return warn("; ".join(told), "correct the config file, if it is not meant so")
        return ok("every field is known, and the Job of a task is accepted as a dry run")

    async def _check_pod_security(self) -> CheckResult:
        check = await self._template.get()
        return await check_pod_security(self._open, self._config.namespace, check.warnings)

    async def _check_quotas(self) -> CheckResult:
        return await check_quotas(self._open, self._config.namespace)

    async def _check_limit_ranges(self) -> CheckResult:
        return await check_limit_ranges(self._open, self._config.namespace)

    async def _check_image_volumes(self) -> CheckResult:
        """A server without the feature drops the field, and then misses a type in the volume."""
        used = self._config.use_image_volumes
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "task", "image": self._config.preflight_image}],
            "volumes": [{"name": "v", "image": {"reference": self._config.preflight_image}}],
        }
        job = {"metadata": {"name": "oz-preflight"}, "spec": {"template": {"spec": pod}}}
        try:
            await self._open.exchange(rest.create(JOBS, self._config.namespace, job, dry_run=True))
        except InvalidError as error:
            if "volumes[0]" not in error.message:
                raise
            fix = "set backend.kubernetes.use_image_volumes to false, or enable the feature gate ImageVolume"
            told = "not supported by this API server"
            return fail(told, fix) if used else ok(f"{told}, and not used")
        except ForbiddenError as error:
            return skip(f"a dry run is refused: {error.message}")
        return ok(
            "supported by the API server" + ("; the nodes need containerd 2.1 or newer" if used else "")
        )

    # ---------------------------------------------------------------------- the preflight Job

    async def _run_trial(self) -> ProbeResult:
        trial = ProbeRun(
            self._open,
            self._config,
            worker_id=self._worker_id,
            unique=secrets.token_hex(4),
            policy=self._policy,
            settings=self._trial_settings,
        )
        return await trial.run()

    def _stage_check(self, stage: Stage, said: str) -> Callable[[], Awaitable[CheckResult]]:
        async def check() -> CheckResult:
            if not self._with_job:
                return skip("left out by --no-job")
            return judge_stage(await self._trial.get(), stage, said)

        return check


def _needed_by_job(permission: str) -> bool:
    return permission in {"jobs: create", "jobs: get", "jobs: delete", "pods: list"}


def _as_failure(diagnosis: Finding) -> CheckResult:
    words = f"\nthe cluster says: {diagnosis.words}" if diagnosis.words else ""
    return fail(diagnosis.what + words, diagnosis.mend)


def judge_stage(result: ProbeResult, stage: Stage, said: str) -> CheckResult:
    """What the preflight Job shows of one stage: the one at which it stopped tells why."""
    if stage != result.stopped_at:
        return ok(said) if result.reached >= stage else skip("not reached")
    if result.pending is not None:
        return warn(
            f"no node takes it yet: {result.pending}",
            "tasks wait for the autoscaler; with backend.kubernetes.preflight_unschedulable: fail they"
            " would be refused",
        )
    assert result.diagnosis is not None
    return _as_failure(result.diagnosis)
