"""What is wrong, as data: composed into text only where it is shown. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    UnauthorizedError,
    UnreachableError,
    UntrustedServerError,
)

from .messages import capitalized, quoted

__all__ = [
    "Finding",
    "PodProblem",
    "explain_api_error",
    "explain_field_errors",
    "explain_missing_permissions",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, in the present tense and without a capital letter; all but ``what`` may be empty.

    ``quote`` is the cluster's message. ``advice`` says what to change, and may have several lines, such
    as a piece of YAML to copy. ``duration`` says how long it continued if it fails a task (`` within
    30 s``). ``more`` is a clause to follow the cluster's message.
    """

    what: str
    quote: str = ""
    advice: str = ""
    duration: str = ""
    more: str = ""

    def __str__(self) -> str:
        """Write the lines that a failed start prints."""
        lines = [self.what]
        if self.quote:
            lines.append(f"  the cluster says: {self.quote}")
        if self.advice:
            lines.append("  fix: " + self.advice.replace("\n", "\n    "))
        return "\n".join(lines)

    def statement(self) -> str:
        """Say what is wrong at present, with the cluster's message."""
        return f"{self.what}{quoted(self.quote)}{self.more}"

    def sentence(self) -> str:
        """Write the sentence of a failed task: what, for how long, the cluster's message, advice."""
        return f"{capitalized(self.what)}{self.duration}{quoted(self.quote)}{self.more}: {self.advice}"


@dataclass(frozen=True, slots=True)
class PodProblem:
    """A state of a Pod, or of a Job without one, that fails the task when it has lasted ``grace`` seconds.

    ``key`` names the state across observations; the cluster's message about it changes. ``about`` is the
    UID of the object whose events may explain it, empty where none can; they should be read after
    ``ask_after`` seconds. ``text`` is what the task itself wrote about it.
    """

    key: str
    grace: float
    reason: FailureReason
    finding: Finding
    about: str = ""
    ask_after: float = math.inf
    text: TaskText | None = None

    @property
    def outcome(self) -> Outcome:
        """How the task ends if the problem continues."""
        return failed(self.reason, self.finding.sentence(), task_text=self.text)


def explain_api_error(
    error: ApiError, *, server: str, description: str, namespace: str, permissions: str
) -> Finding:
    """Explain why the API server does not answer or refuses.

    ``description`` names the credentials, ``permissions`` are all that the worker needs.
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
    if isinstance(error, UntrustedServerError):
        return Finding(
            f"the Kubernetes backend cannot start ({description}): {error}",
            advice="check that this certificate authority signed the API server's certificate, that the"
            " certificate has the name of this address (else set the kubeconfig's tls-server-name), and"
            " that no proxy decrypts the connection",
        )
    if isinstance(error, UnreachableError):
        return Finding(
            f"the Kubernetes backend cannot start ({description}): {error}",
            advice="check that the cluster runs, that this is its address,"
            " and that a firewall or proxy lets this machine reach it",
        )
    quote = error.message if isinstance(error, ApiStatusError) else str(error)
    return Finding(
        f"the Kubernetes API server {server} cannot do what the worker asks ({description})",
        quote,
        "check that this is the API server's address, and its health (kubectl get --raw /readyz)",
    )


def explain_missing_permissions(
    missing: str, rules: str, quote: str, *, description: str, namespace: str
) -> Finding:
    """Explain which permissions are missing; ``rules`` are the lines that a Role needs for them."""
    return Finding(
        f"the worker lacks permissions in namespace {namespace!r}: {missing}",
        quote,
        f"add to the Role that is bound to the worker ({description}):\n{rules}",
    )


def explain_field_errors(problems: Sequence[str], quote: str) -> Finding:
    """Explain that the Job of a task has fields that the API server does not know or cannot read."""
    listed = "\n".join(f"  {problem}" for problem in problems)
    return Finding(
        f"the Job of a task is not what Kubernetes takes:\n{listed}",
        quote,
        "correct the config file; `kubectl explain pod.spec` lists what a PodSpec can hold",
    )
