"""An event loop for tests whose time jumps: where nothing is ready, to the next timer.

A test of hours takes milliseconds, and its times are exact whatever the machine's load. While it
runs, ``time.monotonic`` is the loop's time as well. Tasks and timers only: there is no thread and
no peer to wait for. A test in which everything waits and no timer is set fails at once.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from unittest import mock

__all__ = ["START", "StandstillError", "in_virtual_time", "run_in_virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

#: Where virtual time begins, in seconds. Not zero: code that takes 0 for "never" is to be found out.
START = 1000.0


class StandstillError(AssertionError):
    """Every task waits for something that no timer will bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock on by the time for which the loop would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StandstillError("every task waits, and no timer is set")
        self.now += timeout
        return []


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # Between two binary fractions, a timer must not be due a moment after the time that was slept.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumping.now


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, as ``asyncio.run`` does, in virtual time from ``START`` on.

    Raises:
        StandstillError: nothing can ever happen again, and the coroutine has not ended.
    """
    loop = _VirtualTimeLoop()
    with mock.patch("time.monotonic", loop.time), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Have an async test run in virtual time; a decorator. Its fixtures are to be synchronous."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run_test
