"""What the exporters log, passed on to the worker's log: rate-limited, one line each, no tracebacks."""

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["ExporterLogHandler"]

logger: Final = logging.getLogger(__name__)


class ExporterLogHandler(logging.Handler):
    """Takes what OpenTelemetry's libraries log, and passes on one line per logger and ``pause`` seconds.

    An exporter whose collector is away logs every few seconds. ``level`` is that of the lines:
    low if the exporter is not configured.
    """

    def __init__(
        self, level: int, *, pause: float = 600.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(logging.WARNING)
        self._logged_at: dict[str, float] = {}
        self._level = level
        self._pause = pause
        self._monotonic = monotonic

    def install(self) -> None:
        """Replace the libraries' log handlers, to the end of the process.

        It is not removed: an exporter's thread may outlive what it exports for.
        """
        library = logging.getLogger("opentelemetry")
        library.handlers = [self]
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on, unless its logger wrote one within the last ``pause`` seconds."""
        now = self._monotonic()
        if now - self._logged_at.get(record.name, float("-inf")) < self._pause:
            return
        self._logged_at[record.name] = now
        cause = record.exc_info[1] if record.exc_info else None
        detail = f": {cause}" if cause is not None else ""
        logger.log(self._level, "Telemetry: %s%s (tasks are not affected)", record.getMessage(), detail)
