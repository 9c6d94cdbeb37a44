"""Copying logs from an API server that breaks off, refuses, or has nothing any more."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.log_follower import LogFollower, LogFollowers, LogSettings
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.log_fields import LogFields
from tests.integration.worker.backends.harness import eventually

from .api_server import ApiServer, Fault, Handler, says
from .worker import Output

ONE, TWO, THREE = (f"2026-01-01T00:00:0{second}.000000000Z " for second in (1, 2, 3))
QUICKLY = LogSettings(pauses=RetryPolicy(first=0.01, longest=0.01))
RUNNING: dict[str, Any] = {"running": {}}
ENDED: dict[str, Any] = {"terminated": {"exitCode": 0}}


def pod(state: dict[str, Any], *, name: str = "pod", created: str = "2026-01-01T00:00:00Z") -> PodView:
    key = {"oz.warp.dev/task-id": "run-1", "oz.warp.dev/execution-id": "exec-1"}
    document = {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": created,
            "annotations": key,
        },
        "status": {"phase": "Running", "containerStatuses": [{"name": "task", "state": state}]},
    }
    return msgspec.convert(document, PodView)


def sends(text: str, *, breaks_off: bool = False) -> Fault:
    """Answer with a log, and break the connection in place of its end."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(text.encode())
        if breaks_off:
            await asyncio.sleep(0.02)  # so that it is received before the break
            assert request.transport is not None
            request.transport.abort()
        return response

    return fault


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
async def client(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    quick = ClientSettings(log=RetryPolicy(budget=0.2, first=0.01, longest=0.01))
    credentials = load_credentials(str(server.kubeconfig(tmp_path)), environ={})
    async with KubernetesClient(credentials, settings=quick) as opened:
        yield opened


@pytest.fixture
async def followers() -> AsyncIterator[LogFollowers]:
    running = LogFollowers(QUICKLY)
    yield running
    await running.close()


def answer(server: ApiServer, *faults: Fault) -> None:
    """What the next requests for logs get, in order."""
    server.faults["get", "pods/log"].extend(faults)


async def test_a_connection_that_breaks_in_the_middle_of_a_line_is_taken_up_there(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    answer(
        server,
        sends(f"{ONE}one\n{TWO}tw", breaks_off=True),
        says(500, "InternalError", "the node does not answer"),
        sends(f"{TWO}two\n{THREE}thr", breaks_off=True),
        sends(f"{THREE}three\n"),
        *[sends("")] * 200,
    )
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    log.update((pod(RUNNING),))
    await eventually(lambda: output.received == b"one\ntwo\nthree\n")
    await log.finish((pod(ENDED),))
    assert output.received == b"one\ntwo\nthree\n"
    asked = [query.get("sinceTime") for verb, resource, query in server.requests if resource == "pods/log"]
    assert asked[:4] == [None, *["2026-01-01T00:00:02Z"] * 2, "2026-01-01T00:00:03Z"]


async def test_a_refusal_is_no_end(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    """An API server that starts may not have read its roles yet."""
    answer(server, says(403, "Forbidden"), says(403, "Forbidden"), sends(f"{ONE}one\n"), *[sends("")] * 100)
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    log.update((pod(RUNNING),))
    await eventually(lambda: output.received == b"one\n")
    await log.finish((pod(ENDED),))
    assert output.received == b"one\n"


async def test_a_log_that_cannot_be_read_to_its_end_says_so(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    answer(server, sends(f"{ONE}one\n"), *[says(500, "InternalError", "no route to the node")] * 200)
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    log.update((pod(RUNNING),))
    await eventually(lambda: output.received == b"one\n")
    await log.finish((pod(ENDED),))
    first, note = output.received.decode().splitlines()
    assert first == "one"
    assert note.startswith("[oz-agent-worker: the log could not be read to its end: ")
    assert "no route to the node" in note


class Fields(logging.Handler):
    """Notes the fields of each line of the log at the moment when it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Mapping[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(LogFields().of(record))


async def test_a_line_about_a_log_says_of_which_task_it_is(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fields, logger = Fields(), logging.getLogger(LogFollower.__module__)
    logger.addHandler(fields)
    try:
        answer(server, *[says(500, "InternalError", "no route to the node")] * 200)
        log = LogFollower(client, "ns", followers, Output())
        log.update((pod(RUNNING),))
        await eventually(lambda: fields.seen != [])
        await log.finish((pod(ENDED),))
    finally:
        logger.removeHandler(fields)
    assert fields.seen[0] == {"task": "run-1", "execution": "exec-1"}


async def test_a_pod_that_is_gone_after_its_log_was_followed_is_no_news(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    answer(server, sends(f"{ONE}one\n"), *[says(404, "NotFound")] * 100)
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    log.update((pod(RUNNING),))
    await eventually(lambda: output.received == b"one\n")
    await log.finish((pod(ENDED),))
    assert output.received == b"one\n"


@pytest.mark.parametrize("followed", [True, False])
async def test_of_a_long_log_whose_pod_goes_while_it_is_read_that_is_kept_which_has_come(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers, followed: bool
) -> None:
    lines = "".join(f"{TWO}{number:0100}\n" for number in range(20_000))
    broken: list[bool] = []

    async def kubelet(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "follow" in request.query:
            return await sends(f"{ONE}one\n")(request, handler)
        if "sinceTime" in request.query and not broken:
            broken.append(True)
            return await sends(f"{ONE}one\n{lines}", breaks_off=True)(request, handler)
        if "limitBytes" in request.query:
            return await sends(f"{ONE}one\n{lines}"[: int(request.query["limitBytes"])])(request, handler)
        return await says(404, "NotFound", "the Pod is gone")(request, handler)

    answer(server, *[kubelet] * 200)
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    if followed:
        log.update((pod(RUNNING),))
        await eventually(lambda: output.received == b"one\n")
    await log.finish((pod(ENDED),))
    assert len(output.received) > 1024 * 1024
    assert output.received.startswith(b"one\n") is followed
    last, _, note = output.received.decode().splitlines()[-3:]
    assert last.startswith("00000000")
    assert note.startswith("[oz-agent-worker: the log was read so far, and its end could not be: ")
    assert "the Pod is gone" in note


async def test_the_output_of_a_task_that_was_started_again_says_where(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    answer(server, sends(f"{ONE}first\n"), sends(f"{TWO}second\n"))
    output = Output()
    pods = (pod(ENDED), pod(ENDED, name="again", created="2026-01-01T00:01:00Z"))
    await LogFollower(client, "ns", followers, output).finish(pods)
    assert output.received.decode().splitlines() == [
        "first",
        "[oz-agent-worker: the task was started again, as Pod again]",
        "second",
    ]


async def test_an_end_that_was_interrupted_is_taken_up_and_nothing_written_twice(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    async def hangs(request: web.Request, handler: Handler) -> web.StreamResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    reached = asyncio.Event()
    answer(server, sends(f"{ONE}one\n"), hangs, sends(f"{TWO}two\n"))
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    pods = (pod(ENDED), pod(ENDED, name="again", created="2026-01-01T00:01:00Z"))
    finishing = asyncio.create_task(log.finish(pods))
    await reached.wait()
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    await log.finish(pods)
    assert output.received.decode().splitlines()[::2] == ["one", "two"]


async def test_nothing_is_followed_once_the_end_was_read(
    server: ApiServer, client: KubernetesClient, followers: LogFollowers
) -> None:
    answer(server, sends(f"{ONE}one\n"))
    output = Output()
    log = LogFollower(client, "ns", followers, output)
    await log.finish((pod(ENDED),))
    log.update((pod(RUNNING, name="late"),))
    await asyncio.sleep(0.05)
    assert server.asked("get", "pods/log") == 1
    assert output.received == b"one\n"
