"""Shown before the first task: permissions, the Pod template, and a Job of a task's own shape.

Nothing here passes by luck. A permission is asked for or tried; the check of the template
has a mistake in it that must be found; the Job must have run to its end.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.api.server_info import read_server_info
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding, explain_missing_permissions
from oz_agent_worker.worker.checks import Severity
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .owner_permission import OWNER_SIGHT, check_owner_sight, owners_namespace
from .permissions import Grant, needed_permissions, review, role_rules, summary
from .probe_run import ProbeRun, ProbeRunSettings
from .template_check import check_template

__all__ = ["Preflight", "PreflightSettings", "missing_permissions"]

_logger = logging.getLogger(__name__)

#: How many missing permissions are told one by one, each with its purpose.
_FEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightSettings:
    """Times in seconds.

    ``patience``: how long an API server that does not answer is waited for; ``refusal_patience``: how
    long a permission that is missing is asked for again.
    """

    patience: float = 10.0
    refusal_patience: float = REFUSAL_PATIENCE
    trial: ProbeRunSettings = field(default_factory=ProbeRunSettings)


class Preflight:
    """Checks one cluster for one worker.

    ``environ`` says whether the worker is a Pod of it; ``clock`` gives seconds, and never runs backwards.
    """

    def __init__(
        self,
        client: KubernetesClient,
        config: KubernetesConfig,
        *,
        worker_id: str,
        cleanup: bool,
        policy: ObservationPolicy,
        settings: PreflightSettings,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._worker_id = worker_id
        self._cleanup = cleanup
        self._policy = policy
        self._settings = settings
        self._owners = owners_namespace(config, environ)
        self._clock = clock

    async def run(self) -> None:
        """Return when tasks can run.

        Raises:
            PreflightError: they cannot; the text is one diagnosis.
            ApiError: the API server cannot be asked.
        """
        began = self._clock()
        await read_server_info(self._client, RetryPolicy(budget=self._settings.patience, longest=1.0))
        await self._permissions()
        # Only what passed is worth a warning: what did not is told by the one diagnosis.
        warnings = [*await self._template(), *await self._trial(), *await self._owner_sight()]
        for warning in warnings:
            _logger.warning("Preflight: %s", warning)
        _logger.info("Preflight passed in %.1f s", self._clock() - began)

    async def _permissions(self) -> None:
        grants = await review(
            self._client,
            self._config.namespace,
            needed_permissions(self._config),
            unique=_unique(),
            patience=self._settings.refusal_patience,
        )
        missing = [grant for grant in grants if not grant.allowed]
        if missing:
            raise _failure(missing_permissions(missing, self._config, self._client.credentials.description))

    async def _owner_sight(self) -> tuple[str, ...]:
        if self._owners is None:
            return ()
        try:
            verdict = await check_owner_sight(self._client, self._owners, unique=_unique())
        except ApiError as error:  # tasks run without it
            return (f"whether the worker may {OWNER_SIGHT.purpose} could not be asked: {error}",)
        if verdict.severity is Severity.OK:
            return ()
        return (f"{verdict.detail}; grant {OWNER_SIGHT} in namespace {self._owners}",)

    async def _template(self) -> tuple[str, ...]:
        check = await check_template(
            self._client,
            self._config,
            worker_id=self._worker_id,
            cleanup=self._cleanup,
            unique=_unique(),
        )
        if check.diagnosis is not None:
            raise _failure(check.diagnosis)
        return check.warnings

    async def _trial(self) -> tuple[str, ...]:
        trial = ProbeRun(
            self._client,
            self._config,
            worker_id=self._worker_id,
            unique=_unique(),
            policy=self._policy,
            settings=self._settings.trial,
            clock=self._clock,
        )
        result = await trial.run()
        if result.diagnosis is not None:
            raise _failure(result.diagnosis)
        if result.pending is None:
            return ()
        return (f"no node takes a task's Pod yet, and tasks will wait for one ({result.pending})",)


def missing_permissions(missing: list[Grant], config: KubernetesConfig, description: str) -> Finding:
    """One diagnosis of all permissions that are missing, in the words of the first refusal."""
    permissions = [grant.permission for grant in missing]
    few = len(permissions) <= _FEW
    named = "; ".join(f"{p} (to {p.purpose})" for p in permissions) if few else summary(permissions)
    words = next((grant.words for grant in missing if grant.words), "")
    return explain_missing_permissions(
        named, role_rules(permissions), words, description=description, namespace=config.namespace
    )


def _failure(diagnosis: Finding) -> PreflightError:
    return PreflightError(f"preflight: {diagnosis}")


def _unique() -> str:
    """Letters and digits that tell one attempt from the next."""
    return secrets.token_hex(4)
