"""Refusals that are about the worker, not about what it asks for, and for how long they may pass.

An API server that has just started answers before its RBAC authorizer has read its roles and
bindings (its caches are filled by watches of their own): for a moment it allows nobody anything.
"""

import time
from collections.abc import Callable
from typing import Final

from .errors import ApiError, ForbiddenError, UnauthorizedError

__all__ = ["REFUSAL_PATIENCE", "GracePeriod", "is_about_the_worker", "is_missing_permission"]

#: For how many seconds a permission that is refused at the start may still come. An API server on a
#: busy machine takes one or two until it knows its roles.
REFUSAL_PATIENCE: Final = 5.0


def is_missing_permission(error: ApiError) -> bool:
    """Whether no authorizer allowed the request; a quota and admission say 403 in other words."""
    # The words of k8s.io/apiserver (endpoints/handlers/responsewriters: ForbiddenStatusError).
    return isinstance(error, ForbiddenError) and 'User "' in error.message and '" cannot ' in error.message


def is_about_the_worker(error: ApiError) -> bool:
    """Whether it is the worker's identity that is refused, and not what it asks for.

    Once the start has shown that it may, this passes, or is not for a task to answer for.
    """
    return is_missing_permission(error) or isinstance(error, UnauthorizedError)


class GracePeriod:
    """Whether a missing permission is believed: not for ``patience`` seconds from the first refusal on.

    ``clock`` gives seconds, and never runs backwards.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._believed_at: float | None = None

    def about(self, error: ApiError) -> bool:
        """Whether this refusal may still pass. The first that is asked about starts the time."""
        return is_missing_permission(error) and self.lasts()

    def lasts(self) -> bool:
        """Whether there is time left, from the first call on."""
        now = self._clock()
        if self._believed_at is None:
            self._believed_at = now + self._patience
        return now < self._believed_at

    def allayed(self) -> None:
        """It was allowed: the next refusal is another server's, or the same one's after a restart."""
        self._believed_at = None
