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

from .scripted_api import Answer, Part, ScriptedApi, failure, scripted_client, stream

STAMPS = [f"2026-01-01T00:00:0{second}.000000000Z " for second in range(10)]
SETTINGS = LogSettings(
    pauses=RetryPolicy(first=1.0, longest=8.0), error_pauses=RetryPolicy(first=1.0, longest=30.0)
)
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


NO_WATCHES = "failed to create fsnotify watcher: too many open files"
READ_AGAIN = f"[oz-agent-worker: the kubelet broke off the log, which is read again: {NO_WATCHES}]\n".encode()


def broken_off(*seconds: int, error: str = NO_WATCHES) -> Answer:
    """A followed log that the kubelet ends with an error of its own."""
    return stream(log(*seconds) + error.encode(), ends=True)


@in_virtual_time
async def test_the_kubelets_error_is_a_note_once_and_counted_and_asked_again_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """K3: also while each attempt reads a line more."""
    streams = [("follow", broken_off(*range(1, 2 + n))) for n in range(4)]
    rest = ("log", stream(log(*range(1, 6)), ends=True))
    async with following(*streams, rest) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(30)
        assert bench.sink.output == lines(1) + READ_AGAIN + lines(2, 3, 4)
        assert bench.api.pauses("follow") == [1.0, 2.0, 4.0, 8.0]
        await bench.follower.finish((pod(ENDED),))
        count = f"[oz-agent-worker: the kubelet broke off the log 4 times: {NO_WATCHES}]\n".encode()
        assert bench.sink.output == lines(1) + READ_AGAIN + lines(2, 3, 4, 5) + count
    assert [record.levelname for record in caplog.records if NO_WATCHES in record.message] == ["WARNING"]


@in_virtual_time
async def test_errors_that_differ_are_told_apart_up_to_a_limit() -> None:
    """K3: an ID in an error must not make a note of each attempt."""
    streams = [("follow", broken_off(error=f"rpc error: code = Unknown desc = try {n}")) for n in range(9)]
    async with following(*streams) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(600)
        assert bench.sink.output.count(b"[oz-agent-worker: ") == 5


@in_virtual_time
async def test_an_error_in_a_line_that_is_not_complete_costs_nothing_of_the_line() -> None:
    """K2, K3."""
    begun = f"{STAMPS[1]}thinking".encode()
    answers = [
        ("follow", stream(begun + NO_WATCHES.encode(), ends=True)),
        ("follow", stream(begun + b" and more\n")),
    ]
    async with following(*answers) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(30)
        assert bench.sink.output == b"thinking\n" + READ_AGAIN + b" and more\n"


@in_virtual_time
async def test_an_error_in_place_of_the_log_of_an_ended_container_is_tried_again_and_said() -> None:
    """K3: its HTTP status is 200."""
    error = "unable to retrieve container logs for containerd://4ca2"
    async with following(*[("log", stream(error.encode(), ends=True))] * 20) as bench:
        await bench.follower.finish((pod(ENDED),))
        note = f"[oz-agent-worker: the log could not be read: the kubelet: {error}]\n"
        assert bench.sink.output.decode() == note
        assert len(bench.api.kinds()) > 1


@in_virtual_time
async def test_a_line_of_several_records_is_there_once() -> None:
    """K2: its later records are of another second than its timestamp, and the next line's."""
    answers = [
        ("follow", stream(f"{STAMPS[1]}{'x' * 100}\n{STAMPS[2]}next\n".encode(), LOST)),
        ("follow", stream(f"{'x' * 50}\n{STAMPS[2]}next\n{STAMPS[3]}more\n".encode(), LOST)),
        ("log", stream(f"{STAMPS[3]}more\n{STAMPS[3]}last".encode(), ends=True)),
    ]
    async with following(*answers) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(1.5)
        await bench.follower.finish((pod(ENDED),))
        assert bench.sink.output == b"x" * 100 + b"\nnext\nmore\nlast"


@pytest.mark.parametrize("live", [True, False])
def test_a_log_that_was_rotated_between_two_reads_says_that_a_part_may_be_missing(live: bool) -> None:
    """K2: the kubelet serves the last file only."""

    @in_virtual_time
    async def run() -> None:
        begun = f"{STAMPS[1]}one\n{STAMPS[2]}tw".encode()
        answers = [("follow", stream(begun, LOST))]
        answers += [("follow" if live else "log", stream(log(3, 4), ends=not live))]
        async with following(*answers) as bench:
            bench.follower.update((pod(RUNNING),))
            await asyncio.sleep(30 if live else 0.5)
            if not live:
                await bench.follower.finish((pod(ENDED),))
            gap = "the container's log was rotated meanwhile, and a part of it may be missing here"
            assert bench.sink.output == f"one\ntw\n[oz-agent-worker: {gap}]\n".encode() + lines(3, 4)

    run()


HANGS = stream(3600.0)


@in_virtual_time
async def test_a_result_waits_for_logs_that_never_come_for_half_a_minute() -> None:
    """K4: with all logs of the task together, and it is said."""
    pods = pod(ENDED), pod(ENDED, name="second", created="2026-01-01T00:01:00Z")
    async with following(("follow", stream(log(1))), *[("log", HANGS)] * 9) as bench:
        bench.follower.update((pod(RUNNING),))
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await bench.follower.finish(pods)
        assert loop.time() - began == 30.0
        first, second = bench.sink.output.removeprefix(lines(1)).decode().splitlines()
        assert first.startswith("[oz-agent-worker: the log could not be read to its end: ")
        assert second.startswith("[oz-agent-worker: the log could not be read: ")
        await bench.follower.finish(pods)
        assert loop.time() - began == 30.0


@in_virtual_time
async def test_nothing_else_waits_for_logs_that_never_come() -> None:
    """K4: 200 tasks end, and their results, and a creation, are as quick as one."""
    api, loop = ScriptedApi(), asyncio.get_running_loop()
    for _ in range(400):
        api.answer("log", HANGS)
    api.answer("POST", Answer(parts=(b'{"metadata": {"name": "job"}}',)))
    followers = LogFollowers(SETTINGS)
    async with scripted_client(api) as client:
        began = loop.time()
        sinks = [Sink() for _ in range(200)]
        endings = [
            asyncio.create_task(
                LogFollower(client, "ns", followers, sink).finish((pod(ENDED, name=f"p-{n}"),))
            )
            for n, sink in enumerate(sinks)
        ]
        await asyncio.sleep(1)
        await client.create_job("ns", {"metadata": {"name": "job"}})
        assert loop.time() - began == 1.0
        await asyncio.gather(*endings)
        assert loop.time() - began <= 30.0
        assert all(sink.output.startswith(b"[oz-agent-worker: the log could not be read: ") for sink in sinks)


@in_virtual_time
async def test_nothing_else_waits_for_events_that_never_come() -> None:
    """K4: events explain a failure; a creation does not need them."""
    api, loop = ScriptedApi(), asyncio.get_running_loop()
    for _ in range(400):
        api.answer("list", HANGS)
    api.answer("POST", Answer(parts=(b'{"metadata": {"name": "job"}}',)))
    async with scripted_client(api) as client:
        reads = [asyncio.create_task(client.list_events_about("ns", f"uid-{n}")) for n in range(200)]
        await asyncio.sleep(1)
        began = loop.time()
        await client.create_job("ns", {"metadata": {"name": "job"}})
        assert loop.time() == began
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


@pytest.mark.parametrize("followed", [True, False])
def test_a_log_whose_answer_never_ends_is_given_up_in_half_a_minute(followed: bool) -> None:
    """K4: the bound is that of the whole read, not of the silence between two bytes."""

    @in_virtual_time
    async def run() -> None:
        pieces: list[Part] = [5.0, log(2)]
        trickle = [log(1, 2), *(pieces * 100)]
        async with following(("follow", stream(log(1))), ("log", stream(*trickle))) as bench:
            if followed:
                bench.follower.update((pod(RUNNING),))
                await asyncio.sleep(1)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await bench.follower.finish((pod(ENDED),))
            assert loop.time() - began == 25.0
            output, note = bench.sink.output.rsplit(b"[oz-agent-worker: ", 1)
            assert output.startswith(lines(1, 2) if followed else b"")
            assert b"no answer in 25 s" in note

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
