"""Parts of failure messages: the reason, quotations of the cluster, and the task's own text. Pure."""

from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.manifest.job import SETUP_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.manifest.sidecars import COPY_CONTAINER_PREFIX

__all__ = [
    "MAX_QUOTE",
    "capitalized",
    "cluster_message",
    "container_reason",
    "quote_cluster",
    "quoted",
    "task_text",
]

#: The longest quotation in a message, in characters.
MAX_QUOTE: Final = 400


def container_reason(name: str, of_task: FailureReason, *, init: bool) -> FailureReason:
    """Return the reason for a container's failure: ``of_task``, or one that names its init container."""
    if not init or name == TASK_CONTAINER:
        return of_task
    if name == SETUP_CONTAINER:
        return FailureReason.SETUP_COMMAND
    if name.startswith(COPY_CONTAINER_PREFIX):
        return FailureReason.SIDECAR_PREP
    return FailureReason.INIT_CONTAINER


def cluster_message(reason: str | None, message: str | None, *, limit: int = MAX_QUOTE) -> str:
    """Join a reason and a message of the cluster on one line; empty where there is neither.

    Only for text of the cluster itself. A container's own text, which the kubelet passes on in the
    same fields, is for ``task_text``.
    """
    return ": ".join(part for part in (reason, _one_line(message, limit)) if part)


def quoted(quote: str) -> str:
    """Put a quotation in parentheses, to follow a statement; empty if there is none."""
    return f" ({quote})" if quote else ""


def quote_cluster(reason: str | None, message: str | None) -> str:
    """Quote the cluster, to follow a statement (``cluster_message``, ``quoted``)."""
    return quoted(cluster_message(reason, message))


def task_text(message: str | None) -> TaskText | None:
    """What a container wrote, on one line; ``None`` where it wrote nothing."""
    text = _one_line(message, MAX_QUOTE)
    return TaskText(text) if text else None


def _one_line(message: str | None, limit: int) -> str:
    """One line of at most ``limit`` characters.

    Of a long message the end is kept: there a log has its error, and a chain of wrapped errors
    its cause.
    """
    text = " ".join((message or "").split()).rstrip(". ")
    return text if len(text) <= limit else "…" + text[1 - limit :]


def capitalized(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]
