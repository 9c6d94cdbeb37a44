"""Signals, as an exception before the harness stands and as a queue from then on."""

import os
import select
import signal
from types import FrameType
from typing import Final

from .errors import Interrupted

__all__ = ["PASSED_ON", "SignalQueue", "interrupt_on_signals", "signal_name"]

#: The signals that are passed on to the harness.
PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def signal_name(signum: int) -> str:
    """Return ``SIGTERM`` for 15, and ``signal 64`` for one without a name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _heeded(signum: signal.Signals) -> bool:
    # Whoever started this with nohup wants SIGHUP ignored, by the harness too.
    return signum is not signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN


def interrupt_on_signals() -> None:
    """From here on raise Interrupted on a signal that ends the agent, until a SignalQueue takes over.

    A handler is needed even for what is the default elsewhere: the kernel drops
    signals for process 1 of a container that have none.
    """

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        raise Interrupted(signum)

    for signum in PASSED_ON:
        if _heeded(signum):
            signal.signal(signum, interrupt if signum in _ENDING else signal.SIG_IGN)


class SignalQueue:
    """Signals as they arrive, in order, by the self-pipe that ``set_wakeup_fd`` keeps.

    No code runs in a handler, so nothing can be interrupted half done. Closing leaves
    the handlers in place: the process is about to end, with the harness's exit code.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, *PASSED_ON):
            if _heeded(signum):
                signal.signal(signum, _wake_only)

    def receive(self, timeout: float | None) -> list[int]:
        """Wait up to ``timeout`` seconds (None: for ever) and return the signals that came."""
        ready, _, _ = select.select([self._reader], [], [], timeout)
        return list(os.read(self._reader, 4096)) if ready else []

    def close(self) -> None:
        """Stop receiving."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)


def _wake_only(_signum: int, _frame: FrameType | None) -> None:
    """Handle nothing: the wake-up descriptor has the signal already."""
