"""The worker's side of telemetry: it passes events to listeners, and never fails the worker.

OpenTelemetry's libraries are imported only where the environment chooses an exporter.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.worker.events import Notify, WatchStatus, WorkerEvent
from oz_agent_worker.worker.probes.server import Endpoint, Response

from .exporter_log import ExporterLogHandler
from .exporter_settings import ExporterSettings, read_exporter_settings
from .resource import WorkerResource

if TYPE_CHECKING:
    from .exporting import Exporters
    from .sampler import Sampler

__all__ = ["Telemetry"]

logger: Final = logging.getLogger(__name__)

#: The Prometheus text format, in which names are exactly those of the catalogue.
_TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Passes every event to every listener, and exports as the environment chooses.

    Errors are logged and have no other effect.
    """

    def __init__(self, listeners: Sequence[Notify] = ()) -> None:
        self._listeners = list(listeners)
        self._failed = False
        self._exporters: Exporters | None = None
        self._sampler: Sampler | None = None
        self._sampling: asyncio.Task[None] | None = None
        #: Where Prometheus is to scrape; ``None`` without the Prometheus exporter.
        self.prometheus: Endpoint | None = None

    def begin(self, environ: Mapping[str, str], worker: WorkerResource) -> None:
        """Start the exporters that the environment chooses."""
        settings = read_exporter_settings(environ)
        level = logging.WARNING if settings.explicit else logging.DEBUG
        problems = list(settings.problems)
        if settings.metrics or settings.traces:
            ExporterLogHandler(level).install()
            problems += self._export(settings, worker)
        for problem in problems:
            logger.log(level, "Telemetry: %s", problem)

    def _export(self, settings: ExporterSettings, worker: WorkerResource) -> Sequence[str]:
        try:
            from .exporting import Exporters

            self._exporters = Exporters(settings, worker, self.notify)
        except ImportError:
            return ("OpenTelemetry is not installed: pip install 'oz-agent-worker[otlp,prometheus]'",)
        except Exception as error:  # noqa: BLE001  the SDK reads dozens of variables
            return (f"no metrics or traces: {error}",)
        self._listeners += self._exporters.listeners
        if self._exporters.scrape is not None:
            self.prometheus = settings.prometheus
        return self._exporters.problems

    def notify(self, event: WorkerEvent) -> None:
        """Pass an event to every listener."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                if not self._failed:
                    logger.exception("Telemetry failed at %s", type(event).__name__)
                self._failed = True

    def sample(self, outbox: Outbox, watches: Callable[[], Sequence[WatchStatus]]) -> None:
        """Start to sample the values that no event reports, if metrics are exported."""
        if self._exporters is not None and self._exporters.instruments is not None:
            from .sampler import Sampler

            self._sampler = Sampler(self._exporters.instruments, outbox, watches)
            self._sampling = asyncio.create_task(self._sampler.run(), name="telemetry-sampler")

    def scrape(self) -> Response:
        """Answer Prometheus with a fresh sample."""
        assert self._exporters is not None, "there is no Prometheus exporter"
        assert self._exporters.scrape is not None, "there is no Prometheus exporter"
        if self._sampler is not None:
            self._sampler.sample()
        return Response(200, _TEXT_FORMAT, self._exporters.scrape())

    async def close(self) -> None:
        """Export what is left, within seconds."""
        await cancel_and_wait(self._sampling)
        if self._exporters is not None:
            await _shut_down(self._exporters)


async def _shut_down(exporters: "Exporters") -> None:
    """Shut down in a daemon thread: it blocks neither the event loop nor the end of the process."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        try:
            exporters.shut_down()
        except Exception as error:  # noqa: BLE001  the worker ends anyway: lost metrics must not fail it
            logger.debug("Telemetry: %s", error)
        with suppress(RuntimeError):  # the loop is closed where the worker did not wait
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="telemetry-shutdown", daemon=True).start()
    await done.wait()
