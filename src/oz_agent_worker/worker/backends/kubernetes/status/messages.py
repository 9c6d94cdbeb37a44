"""Parts that every failure message shares: who failed, what the cluster said, and what the task did."""

from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.manifest.job import SETUP_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.manifest.sidecars import COPY_CONTAINER_PREFIX

__all__ = ["MAX_QUOTE", "capitalized", "container_reason", "quote_cluster", "task_text"]

#: The longest quotation in a message, in characters.
MAX_QUOTE: Final = 400


def container_reason(name: str, of_task: FailureReason, *, init: bool) -> FailureReason:
    """The reason that a container's failure has: ``of_task``, or what its init container does."""
    if not init or name == TASK_CONTAINER:
        return of_task
    if name == SETUP_CONTAINER:
        return FailureReason.SETUP_COMMAND
    if name.startswith(COPY_CONTAINER_PREFIX):
        return FailureReason.SIDECAR_PREP
    return FailureReason.INIT_CONTAINER


def quote_cluster(reason: str | None, message: str | None, *, limit: int = MAX_QUOTE) -> str:
    """Quote the cluster in parentheses, on one line; empty where it said nothing.

    What a container wrote is no word of the cluster, though the kubelet hands it on in the same
    fields: that is for ``task_text``.
    """
    quote = ": ".join(part for part in (reason, _quoted(message, limit)) if part)
    return f" ({quote})" if quote else ""


def task_text(message: str | None) -> TaskText | None:
    """What a container wrote, on one line; ``None`` where it wrote nothing."""
    text = _quoted(message, MAX_QUOTE)
    return TaskText(text) if text else None


def _quoted(message: str | None, limit: int) -> str:
    """One line of ``limit`` characters at most.

    The end of a long message is kept: that is where a log's error stands, and where a chain of
    wrapped errors names its cause.
    """
    text = " ".join((message or "").split()).rstrip(". ")
    return text if len(text) <= limit else "…" + text[1 - limit :]


def capitalized(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]
