"""An exporter that complains all the time is heard once in a while."""

import logging
from collections.abc import Iterator

import pytest

from oz_agent_worker.worker.telemetry.exporter_log import ExporterLogHandler

OURS = "oz_agent_worker.worker.telemetry.exporter_log"
LIBRARY = logging.getLogger("opentelemetry.exporter.tests")


def passed_on(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines of the worker's own log."""
    return [record for record in caplog.records if record.name == OURS]


@pytest.fixture
def now() -> Iterator[list[float]]:
    library = logging.getLogger("opentelemetry")
    before = library.handlers, library.propagate
    now = [0.0]
    ExporterLogHandler(logging.WARNING, pause=600, monotonic=lambda: now[0]).install()
    yield now
    library.handlers, library.propagate = before


def test_one_line_a_part_and_pause(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    LIBRARY.warning("no %s", "collector")
    LIBRARY.error("no collector, again")
    logging.getLogger("opentelemetry.sdk.tests").error("another part")
    now[0] = 601.0
    LIBRARY.warning("still none")
    LIBRARY.info("and this is no complaint")
    assert [r.getMessage() for r in passed_on(caplog)] == [
        "Telemetry: no collector (tasks are not affected)",
        "Telemetry: another part (tasks are not affected)",
        "Telemetry: still none (tasks are not affected)",
    ]


def test_a_traceback_becomes_its_cause(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise OSError("no route")
    except OSError:
        LIBRARY.exception("cannot export")
    (record,) = passed_on(caplog)
    assert record.getMessage() == "Telemetry: cannot export: no route (tasks are not affected)"
    assert record.exc_info is None


def test_another_worker_in_the_process_takes_its_place(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    ExporterLogHandler(logging.DEBUG).install()
    LIBRARY.error("of no interest")
    assert [r.levelno for r in passed_on(caplog)] == []
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("opentelemetry.exporter.other").error("of little interest")
    assert [r.levelno for r in passed_on(caplog)] == [logging.DEBUG]
