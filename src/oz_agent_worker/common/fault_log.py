"""Logs what goes on failing, or fails again and again: said once, then counted.

A proxy that ends idle connections every minute interrupts a watch 1,440 times a day. A line for
each hides everything else.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from .durations import short_span

__all__ = ["FaultLog"]

#: Seconds between two lines about what goes on; seconds without a fault after which the next one
#: counts as the first; seconds after which a fault that was only counted is logged because it lasts.
_EVERY: Final = 3600.0
_CALM: Final = 1800.0
_LASTING: Final = 60.0


class FaultLog:
    """Logs the faults of one thing, named ``subject`` (``the watch of jobs``), to ``logger``.

    The first fault is logged, and its end. So is the second, which says that more are only counted.
    After that come at most one line an hour with the count, one for a fault that lasts a minute, and
    one when there has been no fault for half an hour. A problem of another kind is logged when it is
    first seen. ``clock`` (``time.monotonic``) gives seconds and never runs backwards.
    """

    def __init__(
        self, logger: logging.Logger, subject: str, clock: Callable[[], float] | None = None
    ) -> None:
        self._logger = logger
        self._subject = subject
        self._clock = clock or time.monotonic
        self._began: float | None = None
        self._ended_at = self._logged_at = 0.0
        self._is_logged = False
        self._reset()

    @property
    def failing_for(self) -> float:
        """For how many seconds the present fault has lasted; 0 where there is none."""
        return 0.0 if self._began is None else self._clock() - self._began

    def failed(
        self,
        problem: str,
        cause: object,
        *,
        level: int = logging.WARNING,
        traceback: BaseException | None = None,
    ) -> None:
        """Note that it fails: ``problem`` (``is interrupted``) names the kind; ``cause`` says why this time.

        Until ``works``, further calls are about the same fault. The first line has the ``traceback`` of
        an error of this program.
        """
        now = self._clock()
        if self._began is None:
            if self._faults and now - self._ended_at >= _CALM:
                self._reset()
            self._began, self._is_logged = now, False
            self._faults += 1
            self._counted += 1
        lasts = now - self._began
        if problem not in self._problems:
            self._problems.add(problem)
            self._log(level, f"{problem}: {cause}", traceback)
        elif self._faults == 2 and not self._is_logged:
            self._log(
                level,
                f"{problem} again, {short_span(now - self._ended_at)} after the last time: {cause}. From here"
                " on short faults are counted, and logged once an hour",
            )
        elif lasts >= _LASTING and (not self._is_logged or now - self._logged_at >= _EVERY):
            self._log(level, f"{problem}, for {short_span(lasts)} so far: {cause}")
        elif not self._is_logged and now - self._logged_at >= _EVERY:
            often = f"{self._counted} times in {short_span(now - self._logged_at)}"
            self._log(level, f"{problem}, {often}; the last time: {cause}")
            self._is_logged = False  # its end is worth no line

    def occurred(
        self,
        problem: str,
        cause: object,
        *,
        level: int = logging.WARNING,
        traceback: BaseException | None = None,
    ) -> None:
        """Note a fault that has no duration, such as an event that cannot be read."""
        self.failed(problem, cause, level=level, traceback=traceback)
        self._began, self._ended_at = None, self._clock()

    def works(self) -> bool:
        """Note that it works: the fault is over, or there was none.

        Returns false where the fault that is over was counted and not logged: so is its end.
        """
        now = self._clock()
        if self._began is not None:
            if self._is_logged:
                self._logger.info("%s works again, after %s", self._subject, short_span(now - self._began))
            self._began, self._ended_at = None, now
            return self._is_logged
        if self._faults and now - self._ended_at >= _CALM:
            if self._faults > 1:
                self._logger.info(
                    "%s has worked for %s, after %d faults",
                    self._subject,
                    short_span(now - self._ended_at),
                    self._faults,
                )
            self._reset()
        return True

    def _reset(self) -> None:
        """Forget what was logged: the next fault is the first."""
        self._problems: set[str] = set()
        self._faults = self._counted = 0

    def _log(self, level: int, text: str, traceback: BaseException | None = None) -> None:
        self._logger.log(level, "%s %s", self._subject, text, exc_info=traceback)
        self._is_logged, self._logged_at, self._counted = True, self._clock(), 0
