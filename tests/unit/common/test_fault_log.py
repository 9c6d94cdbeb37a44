"""What goes on failing is said once, then counted (K15)."""

import logging

import pytest

from oz_agent_worker.common.fault_log import FaultLog

LOGGER = logging.getLogger("test_fault_log")


class Clock:
    """Seconds that change only when a test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock, caplog: pytest.LogCaptureFixture) -> FaultLog:
    caplog.set_level(logging.INFO)
    return FaultLog(LOGGER, "the watch of jobs", clock)


def interrupt(log: FaultLog, clock: Clock, *, lasts: float = 0.0, cause: str = "cut") -> None:
    """One fault, and its end."""
    log.failed("is interrupted", cause)
    clock.now += lasts
    log.works()


def test_one_fault_is_one_warning_and_its_end_one_message(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log.failed("is interrupted", "cut")
    for _ in range(10):
        clock.now += 3
        log.failed("is interrupted", "refused")
    log.works()
    log.works()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the watch of jobs is interrupted: cut"),
        ("INFO", "the watch of jobs works again, after 30s"),
    ]


def test_k15_a_cut_every_minute_is_said_twice_and_then_counted_once_an_hour(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(6 * 60):
        interrupt(log, clock, lasts=0.25)
        clock.now += 59.75
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned[0] == "the watch of jobs is interrupted: cut"
    assert warned[1] == (
        "the watch of jobs is interrupted again, 59s after the last time: cut. From here on short faults"
        " are counted, and logged once an hour"
    )
    assert warned[2:] == ["the watch of jobs is interrupted, 60 times in 1h; the last time: cut"] * 5
    assert len(caplog.records) == len(warned) + 2, "each of the first two says that it is over"


def test_k15_among_short_faults_one_that_lasts_is_logged_and_its_end_too(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ends = []
    for _ in range(5):
        log.failed("is interrupted", "cut")
        ends.append(log.works())
        clock.now += 60
    assert ends == [True, True, False, False, False], "the end of what was counted is worth no line"
    caplog.clear()
    for _ in range(100):
        log.failed("is interrupted", "refused")
        clock.now += 5
    assert log.works()
    assert log.works()
    assert caplog.messages == [
        "the watch of jobs is interrupted, for 60s so far: refused",
        "the watch of jobs works again, after 8m",
    ]


def test_k15_a_fault_without_an_end_is_logged_once_an_hour(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(24 * 60):
        log.failed("is interrupted", "refused")
        clock.now += 60
    assert len(caplog.records) == 24
    assert caplog.messages[1] == "the watch of jobs is interrupted, for 1h so far: refused"
    assert log.failing_for == pytest.approx(24 * 3600)


def test_k15_faults_without_a_duration_are_counted_too(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2 * 3600):
        log.occurred("delivers what cannot be read", "7 bytes")
        clock.now += 1
    assert len(caplog.records) == 3
    assert caplog.messages[2].endswith(" 3600 times in 1h; the last time: 7 bytes")
    assert log.failing_for == 0


def test_a_problem_of_another_kind_is_logged_at_once(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for problem in ("is interrupted", "is refused", "is interrupted", "is refused"):
        log.failed(problem, "x")
        clock.now += 1
    assert caplog.messages == ["the watch of jobs is interrupted: x", "the watch of jobs is refused: x"]


def test_after_a_long_calm_the_count_begins_anew(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        interrupt(log, clock)
        clock.now += 10
    caplog.clear()
    clock.now += 1789
    log.works()
    assert caplog.messages == []
    clock.now += 1
    log.works()
    log.works()
    assert caplog.messages == ["the watch of jobs has worked for 30m, after 3 faults"]
    interrupt(log, clock)
    assert caplog.messages[1] == "the watch of jobs is interrupted: cut"


def test_after_a_calm_that_nobody_noted_the_count_begins_anew_too(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for pause in (10, 10, 1800):
        log.occurred("fails", "x")
        clock.now += pause
    caplog.clear()
    log.occurred("fails", "x")
    assert caplog.messages == ["the watch of jobs fails: x"]


def test_one_fault_and_a_calm_are_worth_no_second_message(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(log, clock)
    caplog.clear()
    clock.now += 7200
    log.works()
    assert caplog.messages == []


def test_a_line_has_its_level_and_the_first_one_the_traceback(
    log: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("a fault of this program")
    for _ in range(10):
        log.occurred("fails", error, traceback=error)
        clock.now += 1
    log.failed("is refused", "401", level=logging.ERROR)
    shown = [(record.levelname, record.exc_info is not None) for record in caplog.records]
    assert shown == [("WARNING", True), ("WARNING", False), ("ERROR", False)]
