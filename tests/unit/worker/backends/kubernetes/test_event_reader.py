"""Events are read rarely, one request at a time, and only for those that ask."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError, ForbiddenError, UnreachableError
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.event_reader import EventReader, EventSettings
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, ScaleUp
from tests.timeouts import HANG_TIMEOUT
from tests.virtual_time import START, in_virtual_time

from .samples import event

QUICK = EventSettings(every=10.0, spacing=0.0, scale_up=100.0, forbidden=60.0)
TRIGGERED = event("TriggeredScaleUp", "workers 1->2", kind="Normal")


class Clock:
    """Seconds that pass when a test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Events:
    """What the reader asks: answers, or raises, as ordered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.of: dict[str, list[EventView]] = {}
        self.error: ApiError | None = None
        self.at_once = 0
        self.most_at_once = 0

    async def about(self, uid: str) -> list[EventView]:
        self.asked.append(uid)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        return self.of.get(uid, [])


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reader(events: Events, clock: Clock) -> AsyncIterator[EventReader]:
    reading = EventReader(events.about, clock=clock, settings=QUICK)
    yield reading
    await reading.close()


async def next_answer(ask: Callable[[Callable[[], None]], float | None]) -> None:
    """Ask, and wait until the answer is there."""
    answered = asyncio.Event()
    assert ask(answered.set) is None
    async with asyncio.timeout(HANG_TIMEOUT):
        await answered.wait()


async def ask(reader: EventReader, key: str = "job-1", about: str = "uid-1") -> None:
    await next_answer(lambda answer: reader.ask(key, about, answer))


async def test_a_caller_is_notified_of_the_event_facts(
    reader: EventReader, events: Events, clock: Clock
) -> None:
    events.of["uid-1"] = [event("FailedMount", "no secret")]
    assert reader.facts("job-1") is NOT_READ
    await ask(reader)
    facts = reader.facts("job-1")
    assert (facts.about, facts.read_at, facts.mount) == ("uid-1", 1000.0, "FailedMount: no secret")
    assert reader.facts("job-2") is NOT_READ


async def test_the_same_question_is_put_again_only_after_a_while(
    reader: EventReader, events: Events, clock: Clock
) -> None:
    await ask(reader)
    clock.now += 4
    assert reader.ask("job-1", "uid-1", lambda: None) == 6.0
    clock.now += 6
    await ask(reader)
    assert events.asked == ["uid-1", "uid-1"]
    assert reader.facts("job-1").read_at == 1010.0


async def test_another_question_is_put_at_once(reader: EventReader, events: Events) -> None:
    await ask(reader)
    await ask(reader, about="uid-2")
    assert events.asked == ["uid-1", "uid-2"]
    assert reader.facts("job-1").about == "uid-2"


async def test_many_in_problem_are_asked_about_one_at_a_time(reader: EventReader, events: Events) -> None:
    await asyncio.gather(*(ask(reader, f"job-{n}", f"uid-{n}") for n in range(20)))
    assert sorted(events.asked) == sorted(f"uid-{n}" for n in range(20))
    assert events.most_at_once == 1


@in_virtual_time
async def test_there_is_a_pause_between_any_two_reads(events: Events) -> None:
    clock = asyncio.get_running_loop().time
    reader = EventReader(events.about, clock=clock, settings=EventSettings(spacing=0.5))
    reads: list[float] = []
    for number in range(3):
        reader.ask(f"job-{number}", f"uid-{number}", lambda: reads.append(clock() - START))
    await asyncio.sleep(10)
    assert reads == [0.0, 0.5, 1.0]
    await reader.close()


@in_virtual_time
async def test_who_asks_again_while_others_wait_is_read_after_them(events: Events) -> None:
    reader = EventReader(events.about, clock=asyncio.get_running_loop().time, settings=EventSettings())
    for key in ("job-1", "job-2"):
        assert reader.ask(key, f"uid of {key}", lambda: None) is None
    await asyncio.sleep(0.1)
    assert reader.ask("job-1", "uid of job-1", lambda: None) == pytest.approx(9.9)
    assert reader.ask("job-1", "another uid", lambda: None) is None
    await asyncio.sleep(1)
    assert events.asked == ["uid of job-1", "uid of job-2", "another uid"]
    await reader.close()


@in_virtual_time
async def test_one_that_is_forgotten_while_it_is_read_leaves_nothing(events: Events) -> None:
    reader = EventReader(events.about, clock=asyncio.get_running_loop().time, settings=EventSettings())
    reader.ask("job-1", "uid-1", lambda: pytest.fail("it is told although it was forgotten"))
    await asyncio.sleep(0)
    reader.forget("job-1")
    await asyncio.sleep(1)
    assert reader.facts("job-1") is NOT_READ
    assert reader.ask("job-1", "uid-1", lambda: None) is None
    await reader.close()


async def test_a_question_that_is_under_way_is_not_put_twice(reader: EventReader, events: Events) -> None:
    first = asyncio.create_task(ask(reader))
    await asyncio.sleep(0)
    assert reader.ask("job-1", "uid-1", lambda: None) is None
    await first
    assert events.asked == ["uid-1"]


async def test_nothing_is_kept_for_a_problem_that_is_over(reader: EventReader, events: Events) -> None:
    await ask(reader)
    reader.forget("job-1")
    assert reader.facts("job-1") is NOT_READ
    calls: list[str] = []
    reader.ask("job-1", "uid-1", lambda: calls.append("told"))
    reader.forget("job-1")
    await ask(reader, "job-2")
    assert calls == []


async def test_a_missing_permission_is_logged_once_and_retried_later(
    reader: EventReader, events: Events, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    events.error = ForbiddenError(403, "Forbidden", 'cannot list resource "events"', verb="list", path="/e")
    await ask(reader)
    assert reader.facts("job-1").read_at == float("inf")
    assert reader.ask("job-2", "uid-2", lambda: None) == 60.0
    assert reader.facts("job-2").about == "uid-2"
    clock.now += 60
    await ask(reader)
    assert events.asked == ["uid-1", "uid-1"]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "may not list events" in messages[0]
    events.error = None
    clock.now += 60
    await ask(reader)
    assert reader.facts("job-1").read_at == 1120.0
    events.error = ForbiddenError(403, "Forbidden", "taken away", verb="list", path="/e")
    clock.now += 60
    await ask(reader)
    assert len(caplog.records) == 2


async def test_a_server_that_is_away_takes_nothing_back(
    reader: EventReader, events: Events, clock: Clock
) -> None:
    events.of["uid-1"] = [event("FailedMount", "no secret")]
    await ask(reader)
    clock.now += 10
    events.error = UnreachableError("https://server", "connection refused")
    await ask(reader)
    assert reader.facts("job-1").read_at == 1000.0
    assert reader.ask("job-1", "uid-1", lambda: None) == 10.0


async def test_a_node_that_comes_for_one_pod_may_serve_another(
    reader: EventReader, events: Events, clock: Clock
) -> None:
    events.of["uid-1"] = [TRIGGERED]
    await ask(reader)
    await ask(reader, "job-2", "uid-2")
    facts = reader.facts("job-2")
    assert (facts.about, facts.scale_up) == ("uid-2", ScaleUp.COMING)
    assert "workers 1->2" in facts.autoscaler
    assert reader.facts("job-3") is NOT_READ
    clock.now += 100
    assert reader.facts("job-2").scale_up is ScaleUp.UNKNOWN


async def test_the_autoscalers_event_about_the_pod_itself_counts_more(
    reader: EventReader, events: Events
) -> None:
    events.of["uid-1"] = [TRIGGERED]
    events.of["uid-2"] = [event("NotTriggerScaleUp", "too big", kind="Normal")]
    await ask(reader)
    await ask(reader, "job-2", "uid-2")
    assert reader.facts("job-2").scale_up is ScaleUp.REFUSED


async def test_close_ends_what_is_under_way(clock: Clock) -> None:
    async def hang(uid: str) -> list[EventView]:
        await asyncio.Event().wait()
        raise AssertionError

    reader = EventReader(hang, clock=clock)
    reader.ask("job-1", "uid-1", lambda: None)
    await asyncio.sleep(0)
    await reader.close()
    await reader.close()
