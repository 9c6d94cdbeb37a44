"""Signals: an exception until the harness is started, a queue from then on."""

import os
import select
import signal
from types import FrameType
from typing import Final

from .errors import Interrupted

__all__ = ["FORWARDED", "SignalQueue", "interrupt_on_signals", "signal_name"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
#: The signals that are forwarded to the harness.
FORWARDED: Final = (*_ENDING, signal.SIGUSR1, signal.SIGUSR2)


def signal_name(signum: int) -> str:
    """Return ``SIGTERM`` for 15, and ``signal 64`` for one without a name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _is_ignored_hangup(signum: signal.Signals) -> bool:
    # nohup starts a program with SIGHUP ignored, and its children must ignore it too.
    return signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN


def interrupt_on_signals() -> None:
    """Raise Interrupted on a signal that ends the agent, until a SignalQueue takes over.

    Without a handler the kernel drops signals to process 1 of a container, even those whose default
    action is to end the process.
    """

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        raise Interrupted(signum)

    for signum in FORWARDED:
        if not _is_ignored_hangup(signum):
            signal.signal(signum, interrupt if signum in _ENDING else signal.SIG_IGN)


class SignalQueue:
    """Received signals in order, read from the self-pipe of ``signal.set_wakeup_fd``.

    Handlers do nothing, so that no signal interrupts the agent's own code. ``close`` leaves the handlers
    in place: the process is about to end with the harness's exit code.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, *FORWARDED):
            if not _is_ignored_hangup(signum):
                signal.signal(signum, lambda _signum, _frame: None)  # the pipe has the signal already

    def receive(self, timeout: float | None) -> list[int]:
        """Wait up to ``timeout`` seconds (None: without limit) and return the signals that came."""
        ready, _, _ = select.select([self._reader], [], [], timeout)
        return list(os.read(self._reader, 4096)) if ready else []

    def close(self) -> None:
        """Stop receiving."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)
