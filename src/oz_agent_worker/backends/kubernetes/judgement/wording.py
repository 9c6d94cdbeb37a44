"""Parts that every failure message shares: who failed, and what the cluster said."""

from typing import Final

from oz_agent_worker.backends.kubernetes.manifests.manifest import SETUP_CONTAINER
from oz_agent_worker.backends.kubernetes.manifests.podtemplate import TASK_CONTAINER
from oz_agent_worker.backends.kubernetes.manifests.sidecars import COPY_CONTAINER_PREFIX
from oz_agent_worker.core.outcome import FailureReason

__all__ = ["MAX_QUOTE", "container_reason", "said", "sentence"]

#: The longest quotation of the cluster in a message, in characters.
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


def said(reason: str | None, message: str | None, *, limit: int = MAX_QUOTE) -> str:
    """Quote the cluster in parentheses, on one line; empty where it said nothing.

    The last ``limit`` characters of a long message are kept: that is where a log's error
    stands, and where a chain of wrapped errors names its cause.
    """
    text = " ".join((message or "").split()).rstrip(". ")
    if len(text) > limit:
        text = "…" + text[1 - limit :]
    quote = ": ".join(part for part in (reason, text) if part)
    return f" ({quote})" if quote else ""


def sentence(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]
