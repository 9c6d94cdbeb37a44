"""Why tasks cannot run, for the operator: what failed, the cluster's own words, what to change."""

from collections.abc import Sequence
from dataclasses import dataclass

from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    UnauthorizedError,
    UnreachableError,
)

__all__ = ["Finding", "explain_api_error", "explain_field_errors", "explain_missing_permissions"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` failed; ``words`` are the cluster's, ``mend`` says what to change. Both may be empty.

    A ``mend`` may have several lines, such as a piece of YAML to copy.
    """

    what: str
    words: str = ""
    mend: str = ""

    def __str__(self) -> str:
        """Give the whole as the lines that a failed start prints."""
        lines = [self.what]
        if self.words:
            lines.append(f"  the cluster says: {self.words}")
        if self.mend:
            lines.append("  to mend it: " + self.mend.replace("\n", "\n    "))
        return "\n".join(lines)


def explain_api_error(
    error: ApiError, *, server: str, description: str, namespace: str, permissions: str
) -> Finding:
    """Say what stands in the way where the API server does not answer or refuses.

    ``description`` names the credentials, ``permissions`` all that the worker needs.
    """
    if isinstance(error, UnauthorizedError):
        return Finding(
            f"the Kubernetes API server {server} does not accept the credentials of {description}",
            error.message,
            "they may have expired: log in to the cluster again, or check the token or client certificate",
        )
    if isinstance(error, ForbiddenError):
        return Finding(
            f"the Kubernetes API server {server} forbids what tasks need in namespace {namespace!r}",
            error.message,
            f"give the worker's Role ({description}) all that it needs: {permissions}",
        )
    if isinstance(error, UnreachableError):
        return Finding(
            f"the Kubernetes backend cannot start ({description}): {error}",
            mend="check that the cluster runs, that this is its address,"
            " and that a firewall or proxy lets this machine reach it",
        )
    words = error.message if isinstance(error, ApiStatusError) else str(error)
    return Finding(
        f"the Kubernetes API server {server} cannot do what the worker asks ({description})",
        words,
        "check that this is the API server's address, and its health (kubectl get --raw /readyz)",
    )


def explain_missing_permissions(
    missing: str, rules: str, words: str, *, description: str, namespace: str
) -> Finding:
    """Name the permissions that are missing; ``rules`` are the lines that a Role needs for them."""
    return Finding(
        f"the worker lacks permissions in namespace {namespace!r}: {missing}",
        words,
        f"add to the Role that is bound to the worker ({description}):\n{rules}",
    )


def explain_field_errors(problems: Sequence[str], words: str) -> Finding:
    """The Job of a task holds fields that the API server does not know, or cannot read."""
    listed = "\n".join(f"  {problem}" for problem in problems)
    return Finding(
        f"the Job of a task is not what Kubernetes takes:\n{listed}",
        words,
        "correct the config file; `kubectl explain pod.spec` lists what a PodSpec can hold",
    )
