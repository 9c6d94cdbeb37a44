"""What a take-over asks the API server, beside the owners: its time, and whether a Secret stands."""

import time
from collections.abc import Callable

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import AlreadyExistsError, ApiError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS, SECRETS
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, GracePeriod
from oz_agent_worker.worker.backends.kubernetes.objects import JobView

from .liveness import ServerClock

__all__ = ["Questions"]


class Questions:
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
