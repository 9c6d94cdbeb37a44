"""The reflector's lists, watches and pauses, in virtual time against a scripted API server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from oz_agent_worker.worker.backends.kubernetes.api import retry
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ForbiddenError,
    InvalidError,
    ServerError,
    UnreachableError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.watch import reflector as module
from oz_agent_worker.worker.backends.kubernetes.watch.reflector import Reflector, WatchSettings
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change
from tests.unit.worker.backends.kubernetes.scripted_api import (
    Answer,
    Part,
    ScriptedApi,
    failure,
    job,
    line,
    listing,
    scripted_client,
    stream,
)
from tests.virtual_time import START, in_virtual_time

SETTINGS = WatchSettings(spread=0.0, page=2, pauses=RetryPolicy(first=1.0, longest=8.0))
NO_ROLE = 'jobs.batch is forbidden: User "bot" cannot list resource "jobs" in API group "batch"'
LOST = Answer(refused=aiohttp.ClientConnectionError("connection lost"))


@pytest.fixture(autouse=True)
def _longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each delay be its ceiling, so that times are exact."""
    monkeypatch.setattr(module, "delays", lambda policy: retry.delays(policy, lambda low, high: high))


class Watched:
    """A reflector on a scripted API server, and what it has reported."""

    def __init__(self, api: ScriptedApi, reflector: Reflector[JobView], heard: list[str]) -> None:
        self.api = api
        self.reflector = reflector
        self.heard = heard

    def versions(self, kind: str = "watch") -> list[str | None]:
        """From which resource versions watches began."""
        return [asked.query.get("resourceVersion") for asked in self.api.asked if asked.kind == kind]


@asynccontextmanager
async def watching(
    *answers: tuple[str, Answer], settings: WatchSettings = SETTINGS, start: float | None = 60.0
) -> AsyncIterator[Watched]:
    """Start a reflector whose requests get these answers."""
    api = ScriptedApi()
    for kind, answer in answers:
        api.answer(kind, answer)
    heard: list[str] = []

    def on_change(change: Change[JobView]) -> None:
        metadata = change.object.metadata
        heard.append(f"{'-' if change.deleted else '+'}{metadata.name}@{metadata.resource_version}")

    async with scripted_client(api) as client:
        reflector = Reflector(
            client,
            JOBS,
            "ns",
            "app=x",
            on_change=on_change,
            on_list=lambda began: heard.append(f"list@{began - START:g}"),
            settings=settings,
        )
        try:
            if start is not None:
                await reflector.start(start)
            yield Watched(api, reflector, heard)
        finally:
            await reflector.close()


@in_virtual_time
async def test_a_list_of_several_pages_comes_first_and_the_watch_begins_at_its_version() -> None:
    pages = [listing("9", job("a", 1), job("b", 2), token="more"), listing("9", job("c", 3))]
    async with watching(*(("list", page) for page in pages)) as watched:
        first, second, watch = watched.api.asked
        assert first.query == {"labelSelector": "app=x", "limit": "2"}
        assert second.query["continue"] == "more"
        assert watch.query == {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": "app=x",
            "resourceVersion": "9",
            "timeoutSeconds": "300",
        }
        assert watched.heard == ["+a@1", "+b@2", "+c@3", "list@0"]
        assert sorted(watched.reflector.objects) == ["a", "b", "c"]


@in_virtual_time
async def test_a_watch_that_ends_continues_at_once_where_it_was_a_bookmark_included() -> None:
    events: list[Part] = [
        line("ADDED", job("a", 6)),
        10.0,
        line("DELETED", job("a", 8)),
        line("BOOKMARK", {"metadata": {"resourceVersion": "42"}}),
        20.0,
    ]
    answers = ("list", listing("5")), ("watch", stream(*events, ends=True))
    async with watching(*answers) as watched:
        await asyncio.sleep(60)
        assert watched.heard == ["list@0", "+a@6", "-a@8"]
        assert watched.versions() == ["5", "42"]
        assert watched.api.pauses("watch") == [30.0]
        assert watched.api.kinds().count("list") == 1


@pytest.mark.parametrize(
    "gone",
    [
        stream(line("ERROR", {"kind": "Status", "code": 410, "message": "too old"})),
        failure(410, "too old resource version"),
    ],
    ids=["an event", "the answer"],
)
def test_after_410_gone_a_list_finds_what_was_missed(gone: Answer) -> None:
    @in_virtual_time
    async def run() -> None:
        first = stream(line("MODIFIED", job("a", 6)), ends=True)
        lists = [listing("5", job("a", 1), job("b", 2)), listing("90", job("a", 80))]
        answers = [("list", lists[0]), ("watch", first), ("watch", gone), ("list", lists[1])]
        async with watching(*answers) as watched:
            await asyncio.sleep(5)
            assert watched.heard == ["+a@1", "+b@2", "list@0", "+a@6", "-b@2", "+a@80", "list@1"]
            assert watched.versions() == ["5", "6", "90"]

    run()


@in_virtual_time
async def test_pauses_grow_while_the_server_is_away_and_begin_anew_after_a_good_watch() -> None:
    good = stream(line("ADDED", job("a", 6)), aiohttp.ClientPayloadError("cut"))
    async with watching(("list", listing("5")), ("watch", stream(100.0, ends=True))) as watched:
        watched.api.answer("watch", LOST, LOST, LOST, LOST, LOST, good)
        await asyncio.sleep(200)
        assert watched.api.pauses("watch") == [100.0, 1.0, 2.0, 4.0, 8.0, 8.0, 1.0]
        assert watched.versions() == ["5"] * 7 + ["6"]
        assert watched.api.kinds().count("list") == 1


@in_virtual_time
async def test_a_watch_that_ends_at_once_and_empty_is_opened_again_after_a_second_at_most() -> None:
    async with watching(("list", listing("5"))) as watched:
        watched.reflector.reconnect()
        watched.api.answer("watch", *[stream(ends=True)] * 5)
        await asyncio.sleep(20)
        assert watched.api.pauses("watch")[1:] == [1.0] * 5


@pytest.mark.parametrize(
    ("code", "retry_after", "pause"),
    [(429, 20, 20.0), (429, 3000, 30.0), (503, 3, 3.0), (503, 3000, 8.0)],
)
def test_the_servers_retry_after_is_honoured_within_bounds(code: int, retry_after: int, pause: float) -> None:
    @in_virtual_time
    async def run() -> None:
        async with watching(("list", listing("5"))) as watched:
            watched.reflector.reconnect()
            watched.api.answer("watch", failure(code, retry_after=retry_after))
            await asyncio.sleep(100)
            assert watched.api.pauses("watch")[1:] == [pause]

    run()


@in_virtual_time
async def test_a_refusal_after_the_start_is_tried_again_for_ever() -> None:
    async with watching(("list", listing("5"))) as watched:
        watched.reflector.reconnect()
        watched.api.answer("watch", *[failure(403, NO_ROLE)] * 20)
        await asyncio.sleep(300)
        assert watched.versions() == ["5"] * 22
        assert watched.api.kinds().count("list") == 1
        assert watched.reflector.watch_status().alive


@in_virtual_time
async def test_a_permission_that_is_missing_at_the_start_may_come_for_a_few_seconds() -> None:
    answers = [("list", failure(403, NO_ROLE))] * 3 + [("list", listing("5"))]
    async with watching(*answers) as watched:
        assert watched.api.pauses("list") == [1.0] * 3
        assert watched.heard == ["list@3"]


@pytest.mark.parametrize(
    ("answer", "error", "attempts"),
    [
        (failure(403, NO_ROLE), ForbiddenError, 6),
        (failure(403, "exceeded quota"), ForbiddenError, 1),
        (failure(422, "bad selector"), InvalidError, 1),
        (failure(503, "starting"), ServerError, 60),
        (LOST, UnreachableError, 60),
    ],
    ids=["no permission", "another refusal", "invalid", "not ready", "unreachable"],
)
def test_a_start_that_does_not_succeed_raises_the_servers_answer(
    answer: Answer, error: type[ApiError], attempts: int
) -> None:
    @in_virtual_time
    async def run() -> None:
        async with watching(*[("list", answer)] * 100, start=None) as watched:
            with pytest.raises(error):
                await watched.reflector.start(60.0)
            assert len(watched.api.asked) == pytest.approx(attempts, abs=1)
            await asyncio.sleep(60)
            assert len(watched.api.asked) == pytest.approx(attempts, abs=1), "it goes on after its end"
            assert not watched.reflector.watch_status().running

    run()


@in_virtual_time
async def test_a_start_without_an_answer_is_reported() -> None:
    async with watching(("list", stream()), start=None) as watched:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await watched.reflector.start(10.0)


@in_virtual_time
async def test_a_silent_connection_is_lost_after_the_watchs_time_and_the_slack() -> None:
    async with watching(("list", listing("5"))) as watched:
        await asyncio.sleep(314)
        assert watched.reflector.watch_status().silent_for == pytest.approx(314)
        assert watched.versions() == ["5"]
        await asyncio.sleep(3)
        assert watched.versions() == ["5", "5"]
        assert watched.reflector.watch_status().alive


@in_virtual_time
async def test_relist_drops_the_watch_and_reconnect_keeps_its_version() -> None:
    async with watching(("list", listing("5", job("a", 1)))) as watched:
        watched.reflector.reconnect()
        await asyncio.sleep(1)
        watched.api.answer("list", listing("8"))
        watched.reflector.relist()
        await asyncio.sleep(1)
        assert watched.api.kinds() == ["list", "watch", "watch", "list", "watch"]
        assert watched.versions() == ["5", "5", "8"]
        assert watched.heard == ["+a@1", "list@0", "-a@1", "list@1"]


@in_virtual_time
async def test_an_older_list_is_read_again_until_it_must_be_the_truth(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching(("list", listing("50", job("a", 40)))) as watched:
        watched.api.otherwise["list"] = listing("7", job("a", 3))
        watched.reflector.relist()
        await asyncio.sleep(50)
        assert watched.heard == ["+a@40", "list@0"]
        await asyncio.sleep(30)
        assert watched.heard[2:4] == ["+a@3", watched.heard[3]]
        assert watched.versions()[-1] == "7"
    assert "has gone back to version 7" in caplog.text


@in_virtual_time
async def test_an_older_list_that_a_current_one_follows_changes_nothing() -> None:
    async with watching(("list", listing("50", job("a", 40)))) as watched:
        watched.api.answer("list", listing("7"), listing(""), listing("51", job("a", 40)))
        watched.reflector.relist()
        await asyncio.sleep(10)
        assert watched.heard == ["+a@40", "list@0", "list@3"]
        assert watched.versions() == ["50", "51"]


@in_virtual_time
async def test_an_event_that_cannot_be_decoded_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    events = [b'{"type":"ADDED","object":[]}\n', line("LATER", {}), line("ADDED", job("a", 6))]
    async with watching(("list", listing("5")), ("watch", stream(*events))) as watched:
        await asyncio.sleep(1)
        assert watched.heard == ["list@0", "+a@6"]
    assert caplog.text.count("is skipped") == 1


@in_virtual_time
async def test_a_handler_that_fails_costs_a_list_and_not_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(("list", listing("5"))) as watched:

        def fail(change: Any) -> None:
            monkeypatch.undo()
            raise RuntimeError("a fault of this program")

        monkeypatch.setattr(watched.reflector, "_on_change", fail)
        watched.api.answer("watch", stream(line("ADDED", job("a", 6))))
        watched.api.answer("list", listing("7", job("b", 7)))
        watched.reflector.reconnect()
        await asyncio.sleep(2)
        assert watched.versions() == ["5", "5", "7"]
        assert sorted(watched.reflector.objects) == ["b"]
    assert "a fault of this program" in caplog.text


@in_virtual_time
async def test_an_outage_is_one_warning_and_its_end_one_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with watching(("list", listing("5"))) as watched:
        watched.api.answer("watch", *[LOST] * 5)
        watched.reflector.reconnect()
        await asyncio.sleep(60)
    words = [record.getMessage().split(":")[0] for record in caplog.records]
    assert words == ["the watch of jobs is interrupted", "the watch of jobs works again, after 23s"]


@in_virtual_time
async def test_k15_a_watch_that_is_cut_every_minute_is_said_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cut = stream(60.0, aiohttp.ClientPayloadError("cut"))
    async with watching(("list", listing("5"))) as watched:
        watched.api.otherwise["watch"] = cut
        watched.reflector.reconnect()
        await asyncio.sleep(6 * 3600)
        assert len(watched.versions()) > 300
        watched.api.otherwise["watch"] = stream(300.0, ends=True)
        await asyncio.sleep(3600)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 + 5
    assert warned[1].startswith("the watch of jobs is interrupted again, 60s after the last time: ")
    assert all(", 60 times in 1h; the last time: the API server http://api" in line for line in warned[2:])
    assert "the watch of jobs has worked for 3" in caplog.messages[-1]


@in_virtual_time
async def test_k15_events_that_cannot_be_decoded_are_said_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = [part for _ in range(1000) for part in (b'{"type":"ADDED","object":[]}\n', 1.0)]
    async with watching(("list", listing("5")), ("watch", stream(*events))):
        await asyncio.sleep(1000)
    assert caplog.text.count("is skipped") == 2


@in_virtual_time
async def test_k15_a_fault_of_this_program_that_repeats_has_one_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(("list", listing("5"))) as watched:

        def fail(change: Any) -> None:
            raise RuntimeError("a fault of this program")

        monkeypatch.setattr(watched.reflector, "_on_change", fail)
        watched.api.otherwise |= {"list": listing("7"), "watch": stream(line("ADDED", job("a", 9)))}
        watched.reflector.relist()
        await asyncio.sleep(600)
        assert watched.api.kinds().count("list") > 50
    assert caplog.text.count("Traceback") == 1


@in_virtual_time
async def test_k1_a_status_says_for_how_long_the_server_cannot_be_verified_and_why() -> None:
    async with watching(("list", listing("5"))) as watched:
        watched.api.answer("watch", *[LOST] * 100)
        assert watched.reflector.watch_status().failing_for == 0
        watched.reflector.reconnect()
        await asyncio.sleep(90)
        status = watched.reflector.watch_status()
        assert status.failing_for == pytest.approx(90)
        assert status.problem == "the API server http://api cannot be reached: connection lost"
        assert status.alive, "a restart would not help"
        await asyncio.sleep(2000)
        assert watched.reflector.watch_status().failing_for == 0
        assert watched.reflector.watch_status().problem == ""


@pytest.mark.parametrize(
    "answer",
    [failure(400, "bad version"), failure(504, "Too large resource version: 9, current: 4")],
    ids=["refused", "newer than the server"],
)
def test_a_version_that_the_server_does_not_take_means_a_list(answer: Answer) -> None:
    @in_virtual_time
    async def run() -> None:
        async with watching(("list", listing("9"))) as watched:
            watched.api.answer("watch", answer)
            watched.api.answer("list", listing("10"))
            watched.reflector.reconnect()
            await asyncio.sleep(5)
            assert watched.versions() == ["9", "9", "10"]

    run()


@in_virtual_time
async def test_a_version_that_is_gone_at_the_start_is_no_reason_to_fail() -> None:
    async with watching(("list", listing("5")), ("watch", failure(410)), ("list", listing("6"))) as watched:
        assert watched.versions() == ["5", "6"]


@in_virtual_time
async def test_each_time_an_older_list_has_to_last() -> None:
    async with watching(("list", listing("50"))) as watched:
        for _ in range(2):
            watched.api.answer("list", *[listing("7")] * 6, listing("51"))
            watched.reflector.relist()
            await asyncio.sleep(40)
        assert watched.versions() == ["50", "51", "51"]


@in_virtual_time
async def test_each_outage_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(("list", listing("5"))) as watched:
        for _ in range(2):
            watched.api.answer("watch", *[LOST] * 3)
            watched.reflector.reconnect()
            await asyncio.sleep(60)
    assert caplog.text.count("is interrupted") == 2


@in_virtual_time
async def test_while_the_server_is_away_the_watch_is_deaf_and_not_idle() -> None:
    async with watching(("list", listing("5"))) as watched:
        watched.api.otherwise["watch"] = LOST
        await asyncio.sleep(100)
        watched.api.answer("list", listing("6"))
        watched.reflector.relist()
        await asyncio.sleep(2000)
        status = watched.reflector.watch_status()
        assert status.silent_for == pytest.approx(2000), "a list counts as heard"
        assert status.idle_for <= 8
        assert status.alive
