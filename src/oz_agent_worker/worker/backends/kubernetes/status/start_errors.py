"""Why a program could not be run, from the runtime's words: what to do about it. Pure.

The words are the kernel's (errno of execve), passed on by the runtime (runc, crun) or a shell.
"""

from datetime import datetime, timedelta
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.objects import Terminated

__all__ = ["silent_start_advice", "start_advice", "wrong_architecture"]

_FORMAT: Final = "exec format error"  # ENOEXEC
_ARCHITECTURE: Final = (
    "the image is built for another CPU architecture than the node's: use one that is built for it, or select"
    " nodes by the label kubernetes.io/arch (backend.kubernetes.node_selector); of a script, its first line"
    " names no interpreter"
)
#: What the words mean; the first that are found count.
_ADVICE: Final = (
    (_FORMAT, _ARCHITECTURE),
    (
        "executable file not found",  # Go, exec.ErrNotFound
        "the image has no such program on its PATH: use an image that has it, such as one with /bin/sh, or"
        " name the program with its path",
    ),
    (
        "permission denied",  # EACCES
        "the container's user may not run the program: make the file executable in the image (chmod +x), or"
        " correct the user in the security context",
    ),
    (
        "no such file or directory",  # ENOENT
        "the program is not in the image, or the interpreter that a script's first line names is not: a line"
        " that ends with CR LF names another one",
    ),
)
#: With what runc ends where execve fails after the container was started: its words are in the log alone.
_AFTER_START: Final = frozenset({1, 255})
_AT_ONCE: Final = timedelta(seconds=1)  # by times in whole seconds
_ANY: Final = "check that its image has the program that its command names"


def start_advice(message: str | None) -> str:
    """Say what to do about a container that the runtime could not start."""
    text = (message or "").lower()
    return next((advice for words, advice in _ADVICE if words in text), _ANY)


def wrong_architecture(message: str | None) -> str:
    """Say what to do where a container's last words are that a program has another format; else empty.

    They are the container's own words, so they choose the advice and are no evidence of a cause.
    """
    return f"probably {_ARCHITECTURE}" if _FORMAT in (message or "").lower() else ""


def silent_start_advice(ended: Terminated) -> str:
    """Add what the log of a container may say that ended at once, as where its program could not be run."""
    if ended.code not in _AFTER_START or ended.message or not (ended.started_at and ended.finished_at):
        return ""
    lived = datetime.fromisoformat(ended.finished_at) - datetime.fromisoformat(ended.started_at)
    if lived > _AT_ONCE:
        return ""
    return f"; where that says `{_FORMAT}`, {_ARCHITECTURE}"
