"""How logs are followed and completed, in virtual time against a scripted API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes import log_follower as module
from oz_agent_worker.worker.backends.kubernetes.api import retry
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.log_follower import LogFollower, LogFollowers, LogSettings
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from tests.virtual_time import in_virtual_time

from .scripted_api import Answer, ScriptedApi, failure, scripted_client, stream

STAMPS = [f"2026-01-01T00:00:0{second}.000000000Z " for second in range(10)]
SETTINGS = LogSettings(pauses=RetryPolicy(first=1.0, longest=8.0))
RUNNING: dict[str, Any] = {"running": {}}
ENDED: dict[str, Any] = {"terminated": {"exitCode": 0}}
LOST = aiohttp.ClientPayloadError("connection lost")


@pytest.fixture(autouse=True)
def _longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each delay be its ceiling, so that times are exact."""
    monkeypatch.setattr(module, "delays", lambda policy: retry.delays(policy, lambda low, high: high))


def log(*seconds: int) -> bytes:
    """A log with a line for each of these seconds."""
    return b"".join(f"{STAMPS[second]}line {second}\n".encode() for second in seconds)


def lines(*seconds: int) -> bytes:
    """The output in such a log."""
    return b"".join(f"line {second}\n".encode() for second in seconds)


def pod(state: dict[str, Any], *, name: str = "pod", created: str = "2026-01-01T00:00:00Z") -> PodView:
    document = {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": created},
        "status": {"phase": "Running", "containerStatuses": [{"name": "task", "state": state}]},
    }
    return msgspec.convert(document, PodView)


class Sink:
    """Keeps the output."""

    wanted = True

    def __init__(self) -> None:
        self.output = b""

    def write(self, chunk: bytes) -> None:
        self.output += chunk


class Bench:
    """A follower on a scripted API server."""

    def __init__(self, api: ScriptedApi, follower: LogFollower, sink: Sink) -> None:
        self.api = api
        self.follower = follower
        self.sink = sink

    def since(self, kind: str) -> list[str | None]:
        """From which times logs were asked for."""
        return [asked.query.get("sinceTime") for asked in self.api.asked if asked.kind == kind]


@asynccontextmanager
async def following(*answers: tuple[str, Answer], settings: LogSettings = SETTINGS) -> AsyncIterator[Bench]:
    api, sink, followers = ScriptedApi(), Sink(), LogFollowers(settings)
    for kind, answer in answers:
        api.answer(kind, answer)
    async with scripted_client(api) as client:
        yield Bench(api, LogFollower(client, "ns", followers, sink), sink)
        await followers.close()


@in_virtual_time
async def test_output_is_copied_as_it_is_written_and_the_rest_is_read_at_the_end() -> None:
    answers = ("follow", stream(log(1), 30.0, log(2), 3600.0)), ("log", stream(log(2, 3), ends=True))
    async with following(*answers) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(10)
        assert bench.sink.output == lines(1)
        await asyncio.sleep(30)
        assert bench.sink.output == lines(1, 2)
        await bench.follower.finish((pod(ENDED),))
        assert bench.sink.output == lines(1, 2, 3)
        assert bench.since("log") == ["2026-01-01T00:00:02Z"]


@in_virtual_time
async def test_a_stream_that_ends_or_breaks_is_taken_up_where_it_ended_after_a_pause() -> None:
    streams = [
        stream(log(1), LOST),
        stream(log(1, 2), ends=True),
        stream(LOST),
        stream(log(2), LOST),
        stream(log(2, 3)),
    ]
    async with following(*(("follow", answer) for answer in streams)) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(60)
        assert bench.sink.output == lines(1, 2, 3)
        assert bench.api.pauses("follow") == [1.0, 1.0, 1.0, 2.0]
        assert bench.since("follow")[-1] == "2026-01-01T00:00:02Z"


@in_virtual_time
async def test_a_refusal_is_asked_again_after_the_longest_pause() -> None:
    answers = [("follow", failure(403, "no role yet"))] * 2 + [("follow", stream(log(1)))]
    async with following(*answers) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(60)
        assert bench.api.pauses("follow") == [8.0, 8.0]
        assert bench.sink.output == lines(1)


@in_virtual_time
async def test_a_silent_log_is_followed_again_after_the_clients_limit() -> None:
    async with following() as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(302)
        assert bench.api.pauses("follow") == [301.0]


@in_virtual_time
async def test_a_container_that_has_ended_meanwhile_is_read_and_not_followed_again() -> None:
    async with following(
        ("follow", stream(log(1), ends=True)), ("log", stream(log(1, 2), ends=True))
    ) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(0.5)
        bench.follower.update((pod(ENDED),))
        await asyncio.sleep(60)
        assert bench.api.kinds() == ["follow", "log"]
        assert bench.sink.output == lines(1, 2)
        await bench.follower.finish((pod(ENDED),))
        assert bench.api.kinds() == ["follow", "log"]


@in_virtual_time
async def test_no_more_logs_are_followed_than_allowed_and_the_others_are_read_at_the_end() -> None:
    async with following(("log", stream(log(1), ends=True)), settings=LogSettings(most_followed=0)) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(1)
        assert bench.api.asked == []
        await bench.follower.finish((pod(ENDED),))
        assert bench.sink.output == lines(1)


@in_virtual_time
async def test_a_second_pod_of_the_task_is_introduced() -> None:
    answers = ("log", stream(log(1), ends=True)), ("log", stream(log(2), ends=True))
    pods = pod(ENDED), pod(ENDED, name="second", created="2026-01-01T00:01:00Z")
    async with following(*answers) as bench:
        await bench.follower.finish(pods)
        note = b"[oz-agent-worker: the task was started again, as Pod second]\n"
        assert bench.sink.output == lines(1) + note + lines(2)


@pytest.mark.parametrize(
    ("code", "followed", "note"),
    [
        (404, True, b""),
        (404, False, b"the log could not be read: "),
        (400, True, b"the log could not be read to its end: "),
    ],
    ids=["gone after it was followed", "gone before", "refused"],
)
def test_a_log_that_cannot_be_completed(code: int, followed: bool, note: bytes) -> None:
    @in_virtual_time
    async def run() -> None:
        answers = ("follow", stream(log(1))), ("log", failure(code, "no such log"))
        async with following(*answers) as bench:
            if followed:
                bench.follower.update((pod(RUNNING),))
                await asyncio.sleep(1)
            await bench.follower.finish((pod(ENDED),))
            rest = bench.sink.output.removeprefix(lines(1))
            assert note in rest
            assert bool(rest) is bool(note)

    run()


@in_virtual_time
async def test_what_was_cancelled_while_it_finished_goes_on_without_a_repetition() -> None:
    pods = pod(ENDED), pod(ENDED, name="second", created="2026-01-01T00:01:00Z")
    answers = [stream(log(1), ends=True), stream(100.0, log(2), ends=True), stream(log(2), ends=True)]
    async with following(*(("log", answer) for answer in answers)) as bench:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await bench.follower.finish(pods)
        await bench.follower.finish(pods)
        assert bench.sink.output.count(b"line 1\n") == 1
        assert bench.sink.output.endswith(lines(2))


@in_virtual_time
async def test_a_fault_of_this_program_is_logged_and_the_end_is_still_read(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(("follow", stream(log(1))), ("log", stream(log(1), ends=True))) as bench:

        def fail(chunk: bytes) -> None:
            monkeypatch.undo()
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(bench.sink, "write", fail)
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(1)
        assert "log of pod failed" in caplog.text


@in_virtual_time
async def test_an_error_while_following_stops_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise RuntimeError("the disk is full")

    followers = LogFollowers(SETTINGS)
    followers.start(work, "log of pod")
    await asyncio.sleep(1)
    await followers.close()
    assert caplog.messages == ["log of pod failed"]


@in_virtual_time
async def test_nothing_is_followed_after_the_end() -> None:
    async with following() as bench:
        await bench.follower.finish((pod(ENDED),))
        bench.follower.update((pod(RUNNING, name="late"),))
        await asyncio.sleep(1)
        assert bench.api.kinds() == ["log"]
