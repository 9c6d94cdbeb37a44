"""What the worker knows of its telemetry: listeners, a scrape, and that it never fails.

OpenTelemetry's libraries are imported only where the environment chooses an exporter.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.worker.events import Notify, WorkerEvent
from oz_agent_worker.worker.probes.server import Endpoint, Response

from .exporter_settings import Choice, choose
from .log_filter import ExporterLogFilter
from .resource import Identity
from .sources import Subjects

if TYPE_CHECKING:
    from .exporting import Exporting
    from .sampler import Sampler

__all__ = ["Telemetry"]

logger: Final = logging.getLogger(__name__)

#: The Prometheus text format, whose names are the ones that are written.
_TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Tells every listener of every notice, and exports as the environment chooses.

    Whatever goes wrong here is said in the log, and nothing else happens.
    """

    def __init__(self, listeners: Sequence[Notify] = ()) -> None:
        self._listeners = list(listeners)
        self._faulty = False
        self._endpoint: Endpoint | None = None
        self._exporting: Exporting | None = None
        self._sampler: Sampler | None = None
        self._sampling: asyncio.Task[None] | None = None

    def begin(self, environ: Mapping[str, str], identity: Identity) -> None:
        """Export from here on as the environment chooses."""
        choice = choose(environ)
        level = logging.WARNING if choice.asked else logging.DEBUG
        problems = list(choice.problems)
        if choice.anything:
            ExporterLogFilter(level).listen()
            problems += self._export(choice, identity)
        for problem in problems:
            logger.log(level, "Telemetry: %s", problem)

    def _export(self, choice: Choice, identity: Identity) -> Sequence[str]:
        try:
            from .exporting import Exporting

            self._exporting = Exporting(choice, identity, self.notify)
        except ImportError:
            return ("OpenTelemetry is not installed: pip install 'oz-agent-worker[otlp,prometheus]'",)
        except Exception as error:  # noqa: BLE001  the SDK reads dozens of variables
            return (f"no metrics or traces: {error}",)
        self._listeners += self._exporting.listeners
        if self._exporting.scrape is not None:
            self._endpoint = choice.prometheus
        return self._exporting.problems

    @property
    def prometheus(self) -> Endpoint | None:
        """Where metrics are to be scraped, with the Prometheus exporter."""
        return self._endpoint

    def notify(self, notice: WorkerEvent) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            try:
                listener(notice)
            except Exception:
                if not self._faulty:
                    logger.exception("Telemetry failed at %s", type(notice).__name__)
                self._faulty = True

    def watch(self, subjects: Subjects) -> None:
        """Sample from here on what nobody tells."""
        if self._exporting is not None and self._exporting.instruments is not None:
            from .sampler import Sampler

            self._sampler = Sampler(self._exporting.instruments, subjects)
            self._sampling = asyncio.create_task(self._sampler.run(), name="telemetry-sampler")

    def scrape(self) -> Response:
        """Answer Prometheus, with everything as it is at the moment."""
        assert self._exporting is not None, "there is no Prometheus exporter"
        assert self._exporting.scrape is not None, "there is no Prometheus exporter"
        if self._sampler is not None:
            self._sampler.sample()
        return Response(200, _TEXT_FORMAT, self._exporting.scrape())

    async def close(self) -> None:
        """Export what is left, within seconds."""
        await cancel_and_wait(self._sampling)
        if self._exporting is not None:
            await _in_daemon_thread(self._exporting)


async def _in_daemon_thread(exporting: "Exporting") -> None:
    """Shut down beside the event loop, in a thread that the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        try:
            exporting.shut_down()
        except Exception as error:  # noqa: BLE001  the worker ends; its last metrics are no reason to fail
            logger.debug("Telemetry: %s", error)
        with suppress(RuntimeError):  # the loop is closed where the worker did not wait
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="telemetry-farewell", daemon=True).start()
    await done.wait()
