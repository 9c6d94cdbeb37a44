import pytest

from tests.bench.ledger import CANCELLED, COMPLETED, FAILED, Ledger


def test_tasks_that_went_as_they_should() -> None:
    ledger = Ledger()
    for number, task_id in enumerate(("a", "b")):
        ledger.assigned(task_id, 10.0 + number)
        ledger.claimed(task_id, 12.0 + number)
        ledger.ended(task_id, 20.0)
        ledger.reported(task_id, COMPLETED, 20.0 + number)
    assert ledger.check(COMPLETED) == []
    assert (ledger.claims, ledger.reports) == (2, 2)
    assert ledger.claiming_time() == 3.0
    assert ledger.latencies(["b"]) == [1.0]
    assert ledger.reported_ids() == {"a", "b"}


def test_a_lost_task_and_one_with_another_end() -> None:
    ledger = Ledger()
    for task_id in ("lost", "wrong"):
        ledger.assigned(task_id, 1.0)
        ledger.claimed(task_id, 2.0)
    ledger.reported("wrong", FAILED, 3.0)
    assert ledger.check(COMPLETED) == [
        "1 tasks were never reported",
        "1 tasks ended as FAILED, not as COMPLETED",
    ]


def test_what_should_never_happen() -> None:
    ledger = Ledger()
    ledger.assigned("a", 1.0)
    ledger.reported("a", CANCELLED, 2.0)
    ledger.claimed("a", 3.0)
    ledger.claimed("a", 4.0)
    ledger.reported("a", COMPLETED, 5.0)
    ledger.rejected("a", "at_capacity")
    ledger.claimed("z", 6.0)
    ledger.reported("z", COMPLETED, 6.0)
    assert ledger.check(CANCELLED) == [
        "a was reported and never claimed",
        "a was claimed twice",
        "a was reported as CANCELLED and as COMPLETED",
        "a was rejected: at_capacity",
        "z was claimed and never assigned",
        "z was reported and never assigned",
    ]


def test_a_report_may_come_again() -> None:
    ledger = Ledger()
    ledger.assigned("a", 1.0)
    ledger.claimed("a", 2.0)
    ledger.reported("a", COMPLETED, 3.0)
    ledger.reported("a", COMPLETED, 9.0)
    assert ledger.check(COMPLETED) == []
    assert (ledger.reports, ledger.repeated) == (1, 1)


@pytest.mark.parametrize(("ended", "latency"), [(4.0, 1.0), (6.0, 0.0)])
def test_a_report_that_outran_the_news_took_no_time(ended: float, latency: float) -> None:
    ledger = Ledger()
    ledger.assigned("a", 1.0)
    ledger.claimed("a", 2.0)
    ledger.reported("a", COMPLETED, 5.0)
    ledger.ended("a", ended)
    ledger.ended("a", 99.0)
    assert ledger.latencies(["a"]) == [latency]


def test_a_task_of_which_only_one_time_is_known_has_no_latency() -> None:
    ledger = Ledger()
    ledger.assigned("a", 1.0)
    ledger.ended("a", 2.0)
    ledger.ended("stranger", 2.0)
    assert ledger.latencies(["a"]) == []
