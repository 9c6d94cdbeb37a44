"""What the exporters complain of, in the worker's log: once in a while, one line each, no tracebacks."""

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["ExporterLogFilter"]

logger: Final = logging.getLogger(__name__)

_ROOT: Final = "opentelemetry"


class ExporterLogFilter(logging.Handler):
    """Takes what OpenTelemetry's libraries log, and passes on one line a part and ``pause`` seconds.

    An exporter whose collector is away has something to say every few seconds. ``level`` is
    that of the lines: low where nobody asked for the exporter.
    """

    def __init__(
        self, level: int, *, pause: float = 600.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(logging.WARNING)
        self._said_at: dict[str, float] = {}
        self._as = level
        self._pause = pause
        self._monotonic = monotonic

    def listen(self) -> None:
        """Take the libraries' log from here on, in place of whoever did.

        To the process's end: an exporter's thread may outlive what it exports for.
        """
        library = logging.getLogger(_ROOT)
        library.handlers = [self]
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on, unless its part said something lately."""
        now = self._monotonic()
        said_at = self._said_at.get(record.name)
        if said_at is not None and now - said_at < self._pause:
            return
        self._said_at[record.name] = now
        cause = record.exc_info[1] if record.exc_info else None
        detail = f": {cause}" if cause is not None else ""
        logger.log(self._as, "Telemetry: %s%s (tasks are not affected)", record.getMessage(), detail)
