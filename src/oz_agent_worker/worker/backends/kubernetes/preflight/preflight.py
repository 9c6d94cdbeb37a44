"""Shows that tasks can run: the checks that ``doctor`` lists, and that a starting worker must pass.

No check passes by accident. A permission is asked for or tried; the check of the template contains
a deliberate mistake that the API server must find; the preflight Job must have run to its end.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from oz_agent_worker.errors import PreflightError
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
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.api.server_info import (
    OLDEST,
    parse_version,
    read_server_info,
)
from oz_agent_worker.worker.backends.kubernetes.status.admission import explain_refusal
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, observation_policy
from oz_agent_worker.worker.checks import Check, CheckResult, Severity, fail, ok, run_checks, skip, warn
from oz_agent_worker.worker.clock_skew import judge_clock
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .namespace_checks import check_limit_ranges, check_pod_security, check_quotas, is_pod_security
from .permissions import (
    OWNER_PERMISSION,
    Permission,
    explain_error,
    explain_refusals,
    needed_permissions,
    owner_namespace,
    refused_permissions,
    role_rules,
)
from .probe_run import ProbeResult, ProbeRun, ProbeRunSettings, Stage
from .template_check import TemplateResult, check_template

__all__ = ["Preflight", "PreflightSettings", "judge_stage"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The retries of doctor's requests are short: a person can run doctor again.
_DOCTOR_RETRIES: Final = RetryPolicy(budget=3.0, longest=1.0)
_CREDENTIALS: Final = "credentials"
_SERVER: Final = "API server"
_NAMESPACE: Final = "namespace"
_TEMPLATE: Final = "task template"
_STAGES: Final = (
    (Stage.ADMITTED, "admission", "the Pod of the preflight Job was admitted"),
    (Stage.SCHEDULED, "scheduling", "a node took it"),
    (Stage.PULLED, "image pull", "its images were pulled"),
    (Stage.ENDED, "preflight Job", "it ran to its end"),
)
#: The permissions without which the probe Job is not tried.
_NEEDED_BY_JOB: Final = frozenset({"jobs: create", "jobs: get", "jobs: delete", "pods: list"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightSettings:
    """Times in seconds.

    ``patience``: how long to wait for an API server that does not answer. ``refusal_patience``:
    how long to ask again for a permission that is missing.
    """

    patience: float = 10.0
    refusal_patience: float = REFUSAL_PATIENCE
    probe: ProbeRunSettings = field(default_factory=ProbeRunSettings)


class Preflight:
    """The checks of one cluster for one worker.

    Without ``client`` the first check opens one, and ``aclose`` closes it. ``environ`` says whether
    the worker is a Pod of the cluster. ``may_create``: whether to run the probe Job. ``clock`` gives
    seconds, and never runs backwards.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        worker_id: str,
        cleanup: bool,
        environ: Mapping[str, str],
        client: KubernetesClient | None = None,
        policy: ObservationPolicy | None = None,
        settings: PreflightSettings | None = None,
        may_create: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._worker_id = worker_id
        self._cleanup = cleanup
        self._environ = environ
        self._client = client
        self._policy = policy or observation_policy(config, ObservationPolicy())
        self._settings = settings or PreflightSettings()
        patience = RetryPolicy(budget=self._settings.patience, longest=1.0)
        self._server_retries = _DOCTOR_RETRIES if client is None else patience
        self._may_create = may_create
        self._clock = clock
        self._permissions = needed_permissions(config)
        self._owner_namespace = owner_namespace(config, environ)
        self._server = _once(lambda: read_server_info(self._open, self._server_retries))
        self._refused = _once(self._ask_permissions)
        self._template = _once(self._check_template)
        self._probe = _once(self._run_probe)

    async def aclose(self) -> None:
        """Close the client (``contextlib.aclosing``)."""
        if self._client is not None:
            await self._client.close()

    async def run(self) -> None:
        """Run the checks of a starting worker; return when tasks can run.

        Raises:
            PreflightError: they cannot; the text explains the first check that failed.
        """
        began = self._clock()
        warnings: list[str] = []
        async for _, result in run_checks(check for check in self.checks() if check.at_start):
            if result.severity is Severity.FAIL:
                raise PreflightError("\n".join(result.startup) or result.detail)
            warnings += result.startup
        # Log warnings only of a preflight that passes: a failure is explained by its error alone.
        for warning in warnings:
            _logger.warning("Preflight: %s", warning)
        _logger.info("Preflight passed in %.1f s", self._clock() - began)

    def checks(self) -> list[Check]:
        """Return all checks, in the order in which ``doctor`` shows them.

        A starting worker leaves out what costs more requests and what the probe Job shows anyway.
        """
        return [replace(check, run=self._explained(check.run)) for check in self._all_checks()]

    def _all_checks(self) -> Iterator[Check]:
        namespace, needs = self._config.namespace, (_NAMESPACE,)
        yield Check(_CREDENTIALS, self._credentials, at_start=False)
        yield Check(_SERVER, self._server_version, (_CREDENTIALS,))
        yield Check("API server's clock", self._server_clock, (_SERVER,), at_start=False)
        for permission in self._permissions:
            yield Check(str(permission), self._permission_check(permission), (_SERVER,))
        if self._owner_namespace is not None:
            yield Check(f"{OWNER_PERMISSION} ({self._owner_namespace})", self._owner_permission, (_SERVER,))
        yield Check(_NAMESPACE, self._namespace_exists, (_SERVER, "jobs: create"), at_start=False)
        yield Check(_TEMPLATE, self._task_template, needs)
        yield Check("Pod Security", self._pod_security, needs, at_start=False)
        yield Check("quotas", lambda: check_quotas(self._open, namespace), needs, at_start=False)
        yield Check("limit ranges", lambda: check_limit_ranges(self._open, namespace), needs, at_start=False)
        yield Check("image volumes", self._image_volumes, needs, at_start=False)
        needs_of_job = (*needs, _TEMPLATE, *(p for p in map(str, self._permissions) if p in _NEEDED_BY_JOB))
        for stage, name, passed in _STAGES:
            yield Check(name, self._stage_check(stage, passed), needs_of_job)

    def _explained(self, run: Callable[[], Awaitable[CheckResult]]) -> Callable[[], Awaitable[CheckResult]]:
        """Make a check fail with an explanation of an error of the API server."""

        async def check() -> CheckResult:
            try:
                return await run()
            except ApiError as error:
                if isinstance(error, ApiStatusError) and _refuses_object(error):
                    return _failure(explain_refusal(error.message, self._config))
                finding = explain_error(error, self._open.credentials, self._config)
                return _failure(finding, str(finding))

        return check

    # The server and its permissions ------------------------------------------------------------

    @property
    def _open(self) -> KubernetesClient:
        assert self._client is not None
        return self._client

    async def _credentials(self) -> CheckResult:
        credentials = load_credentials(self._config.kubeconfig, environ=self._environ)
        settings = ClientSettings(
            connect_timeout=5.0, request_timeout=15.0, create=_DOCTOR_RETRIES, read=_DOCTOR_RETRIES
        )
        self._client = KubernetesClient(credentials, settings=settings)
        await self._client.open()
        through = f", through {credentials.proxy}" if credentials.proxy is not None else ""
        return ok(credentials.description + through)

    async def _server_version(self) -> CheckResult:
        info = await self._server()
        server, version = self._open.credentials.server, parse_version(info.version)
        if version is None:
            return ok(f"{server}; it does not report its version")
        detail = f"{server}, Kubernetes {info.version}"
        if version < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return warn(
                f"{detail}: native sidecars need {oldest}", f"upgrade the cluster to {oldest} or newer"
            )
        return ok(detail)

    async def _server_clock(self) -> CheckResult:
        return judge_clock((await self._server()).skew)

    async def _ask_permissions(self) -> dict[Permission, str]:
        return await refused_permissions(
            self._open,
            self._config.namespace,
            self._permissions,
            unique=_unique(),
            patience=self._settings.refusal_patience,
        )

    def _permission_check(self, permission: Permission) -> Callable[[], Awaitable[CheckResult]]:
        async def check() -> CheckResult:
            refused, namespace = await self._refused(), self._config.namespace
            if permission not in refused:
                return ok(f"to {permission.purpose}")
            # A starting worker names all missing permissions at once.
            whole = explain_refusals(refused, self._open.credentials.description, namespace)
            rule = f"add to the worker's Role in namespace {namespace}:\n{role_rules([permission])}"
            return CheckResult(Severity.FAIL, refused[permission], rule, (f"preflight: {whole}",))

        return check

    async def _owner_permission(self) -> CheckResult:
        """Ask for the one permission in the worker's own namespace; tasks run without it.

        The others are granted by now, so that a refusal is believed at once.
        """
        namespace = self._owner_namespace or ""
        try:
            refused = await refused_permissions(
                self._open, namespace, [OWNER_PERMISSION], unique=_unique(), patience=0.0
            )
        except ApiError as error:
            detail = f"whether the worker may {OWNER_PERMISSION.purpose} could not be asked: {error}"
            return warn(detail, startup=(detail,))
        if not refused:
            return ok(f"to {OWNER_PERMISSION.purpose}")
        detail = (
            "after a restart, running tasks of an earlier worker are left alone until they end:"
            f" {refused[OWNER_PERMISSION]}"
        )
        return warn(
            detail,
            f"add a Role in namespace {namespace}, bound to the worker (the chart has both, with"
            " rbac.create):\n" + role_rules([OWNER_PERMISSION]),
            startup=(f"{detail}; grant {OWNER_PERMISSION} in namespace {namespace}",),
        )

    # The namespace and the template -------------------------------------------------------------

    async def _namespace_exists(self) -> CheckResult:
        """Create a Job as a dry run: a list of a namespace that does not exist is merely empty."""
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

    async def _check_template(self) -> TemplateResult:
        return await check_template(
            self._open,
            self._config,
            worker_id=self._worker_id,
            cleanup=self._cleanup,
            unique=_unique(),
        )

    async def _task_template(self) -> CheckResult:
        found = await self._template()
        if found.finding is not None:
            return _failure(found.finding)
        # What a Pod Security level would say has a check of its own.
        shown = [text for text in found.warnings if not is_pod_security(text)]
        if shown:
            fix = "correct the config file, if it is not meant so"
            return warn("; ".join(shown), fix, startup=found.warnings)
        detail = "every field is known, and the Job of a task is accepted as a dry run"
        return CheckResult(Severity.OK, detail, startup=found.warnings)

    async def _pod_security(self) -> CheckResult:
        warnings = (await self._template()).warnings
        return await check_pod_security(self._open, self._config.namespace, warnings)

    async def _image_volumes(self) -> CheckResult:
        """Send a Pod with an image volume: a server without the feature drops it, and misses a type."""
        used, image = self._config.use_image_volumes, self._config.preflight_image
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "task", "image": image}],
            "volumes": [{"name": "v", "image": {"reference": image}}],
        }
        job = {"metadata": {"name": "oz-preflight"}, "spec": {"template": {"spec": pod}}}
        try:
            await self._open.exchange(rest.create(JOBS, self._config.namespace, job, dry_run=True))
        except InvalidError as error:
            if "volumes[0]" not in error.message:
                raise
            fix = "set backend.kubernetes.use_image_volumes to false, or enable the feature gate ImageVolume"
            detail = "not supported by this API server"
            return fail(detail, fix) if used else ok(f"{detail}, and not used")
        except ForbiddenError as error:
            return skip(f"a dry run is refused: {error.message}")
        return ok(
            "supported by the API server" + ("; the nodes need containerd 2.1 or newer" if used else "")
        )

    # The probe Job ------------------------------------------------------------------------------

    async def _run_probe(self) -> ProbeResult:
        return await ProbeRun(
            self._open,
            self._config,
            worker_id=self._worker_id,
            unique=_unique(),
            policy=self._policy,
            settings=self._settings.probe,
            clock=self._clock,
        ).run()

    def _stage_check(self, stage: Stage, passed: str) -> Callable[[], Awaitable[CheckResult]]:
        async def check() -> CheckResult:
            if not self._may_create:
                return skip("left out by --no-job")
            return judge_stage(await self._probe(), stage, passed)

        return check


def _once(find: Callable[[], Coroutine[None, None, T]]) -> Callable[[], Awaitable[T]]:
    """Return a function that calls ``find`` once, and gives its result or error to every caller."""
    tasks: list[asyncio.Task[T]] = []

    async def get() -> T:
        if not tasks:
            tasks.append(asyncio.create_task(find()))
        return await tasks[0]

    return get


def _refuses_object(error: ApiStatusError) -> bool:
    """Whether the error is about the object to create, and not about the server or the credentials.

    200 is the code of an answer that cannot be read.
    """
    return error.verb == "create" and not error.transient and error.code not in (200, 401, 403)


def _failure(finding: Finding, startup: str = "") -> CheckResult:
    """Make a failed check of a finding; ``startup`` is the error of a failed start, if it is special."""
    quote = f"\nthe cluster says: {finding.quote}" if finding.quote else ""
    return fail(finding.what + quote, finding.advice, startup=(startup or f"preflight: {finding}",))


def judge_stage(result: ProbeResult, stage: Stage, passed: str) -> CheckResult:
    """Say what the probe Job shows of one stage; the stage at which it stopped explains why."""
    if stage != result.stopped_at:
        return ok(passed) if result.reached >= stage else skip("not reached")
    if result.pending is not None:
        return warn(
            f"no node takes it yet: {result.pending}",
            "tasks wait for the autoscaler; with backend.kubernetes.preflight_unschedulable: fail they"
            " would be refused",
            startup=(f"no node takes a task's Pod yet, and tasks will wait for one ({result.pending})",),
        )
    assert result.finding is not None
    return _failure(result.finding)


def _unique() -> str:
    """Return random letters and digits that make an attempt's names unique."""
    return secrets.token_hex(4)
