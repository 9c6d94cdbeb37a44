"""The backend against an API server that misbehaves."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.errors import BackendError, ExitCode, PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .api_server import ApiServer, breaks, forbidden, hangs, says
from .scripted import JOB, Start, ended, launch
from .worker import IMPATIENT, QUICK, Output, running_backend, task

FAILED = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}], "failed": 1}


async def put_pod(server: ApiServer, phase: str, *, job_uid: str, exit_code: int | None = None) -> None:
    """A Pod of the Job ``JOB``, with its main container running or ended."""
    labels = {"job-name": JOB, "batch.kubernetes.io/controller-uid": job_uid}
    state: Any = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    status = {"phase": phase, "containerStatuses": [{"name": "task", "state": state}]}
    await server.put("pods", "pod", metadata={"labels": labels}, status=status)


# Watches


@pytest.mark.parametrize("fault", ["closed after each event", "in small pieces"])
async def test_nothing_is_lost_when_a_watch_is(server: ApiServer, start: Start, fault: str) -> None:
    if fault == "in small pieces":
        server.chunk = 7
    else:
        server.events_a_watch = 1
    async with start() as backend:
        names = [f"run-{n}" for n in range(5)]
        executions = [await launch(backend, name) for name in names]
        for name in names:
            await server.finish(job_name(ExecutionKey(name, f"{name}-1")))
        assert [await ended(e) for e in executions] == [TaskResult.SUCCEEDED] * 5
        assert server.asked("list", "jobs") - server.asked_from_cache() == 1


@pytest.mark.parametrize("when", ["while it stands", "before it resumes"])
async def test_a_history_that_is_gone_is_made_good_by_a_list(
    server: ApiServer, start: Start, when: str
) -> None:
    async with start() as backend:
        done, deleted, running = [await launch(backend, name) for name in ("done", "deleted", "running")]
        waits = [asyncio.create_task(e.wait()) for e in (done, deleted, running)]
        if when == "before it resumes":
            server.faults["watch", "jobs"].append(breaks)
        server.deaf = True
        await server.finish(job_name(ExecutionKey("done", "done-1")))
        await server.remove("jobs", job_name(ExecutionKey("deleted", "deleted-1")))
        server.deaf = False
        await server.compact()
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await waits[0]).result is TaskResult.SUCCEEDED
            assert "deleted by somebody else" in (await waits[1]).message
        assert not waits[2].done()
        waits[2].cancel()
        assert backend.stats.lists["jobs"] >= 2


async def test_a_watch_that_ends_in_silence_is_opened_again(server: ApiServer, start: Start) -> None:
    quick = dataclasses.replace(QUICK, watch=dataclasses.replace(QUICK.watch, timeout=1.0, slack=0.2))
    async with start(quick) as backend:
        await eventually(lambda: backend.stats.watches["pods"] >= 2)
        assert server.asked("list", "pods") == 1


async def test_an_event_that_the_watch_never_sent_is_found(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        execution = await launch(backend)
        server.deaf = True
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED
        assert backend.stats.lists["jobs"] == 2


async def test_a_cache_that_is_behind_resurrects_nothing(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        before = await server.put("jobs", JOB)
        await server.remove("jobs", JOB)
        server.stale = [before]
        execution = await launch(backend)
        wait = asyncio.create_task(execution.wait())
        await eventually(lambda: server.asked_from_cache() >= 3)
        assert not wait.done()
        await server.finish(JOB)
        assert (await wait).result is TaskResult.SUCCEEDED


async def test_with_nothing_in_flight_nothing_is_asked(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        execution = await launch(backend)
        await server.finish(JOB)
        await execution.release(await execution.wait())
        asked = len(server.requests)
        await asyncio.sleep(3 * QUICK.check_every)
        assert len(server.requests) == asked


async def test_a_list_of_many_pages_whose_token_expires_begins_again(server: ApiServer, start: Start) -> None:
    for n in range(5):
        await server.put("jobs", f"other-{n}")
    server.page_limit = 2
    server.faults["list", "jobs"].extend([_proceed, says(410, "Expired")])
    async with start() as backend:
        assert server.asked("list", "jobs") == 5
        execution = await launch(backend)
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED


async def _proceed(request: Any, handler: Any) -> Any:
    return await handler(request)


# The end


async def test_a_log_that_cannot_be_read_changes_no_outcome(server: ApiServer, start: Start) -> None:
    server.faults["get", "pods/log"].extend([says(500, "InternalError", "the node is gone")] * 50)
    output = Output()
    async with start() as backend:
        execution = await backend.launch(task("run"), output)
        await put_pod(server, "Succeeded", job_uid=execution.uid, exit_code=0)
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED
    text = output.received.decode()
    assert text.startswith("[oz-agent-worker: the log could not be read: ")
    assert "the node is gone" in text


async def test_a_log_is_read_once_whoever_waits(server: ApiServer, start: Start) -> None:
    output = Output()
    async with start() as backend:
        execution = await backend.launch(task("run"), output)
        waits = [asyncio.create_task(execution.wait()) for _ in range(2)]
        await put_pod(server, "Succeeded", job_uid=execution.uid, exit_code=0)
        await server.finish(JOB)
        first, second = await asyncio.gather(*waits)
        assert first == second == await execution.wait()
    assert output.received == b"first line\nlast line\n"


async def test_a_pod_event_after_its_jobs_event_still_gives_the_reason(
    server: ApiServer, start: Start
) -> None:
    async with start() as backend:
        execution = await launch(backend)
        await put_pod(server, "Running", job_uid=execution.uid)
        wait = asyncio.create_task(execution.wait())
        await server.finish(JOB, FAILED)
        await asyncio.sleep(0.1)
        assert not wait.done()
        await put_pod(server, "Failed", job_uid=execution.uid, exit_code=3)
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await wait
    assert (outcome.reason, outcome.exit_code) == (FailureReason.CONTAINER_EXIT, 3)


async def test_a_missing_pod_delays_the_end_only_briefly(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        execution = await launch(backend)
        await server.finish(JOB, FAILED)
        outcome = await execution.wait()
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.POD_MISSING)


async def test_a_job_that_ended_before_it_was_deleted_has_ended(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        execution = await launch(backend)
        server.deaf = True
        await server.finish(JOB)
        await server.remove("jobs", JOB)
        server.deaf = False
        await server.put("jobs", "wakes-the-watch")
        assert await ended(execution) is TaskResult.SUCCEEDED


async def test_a_cancellation_that_does_not_arrive_is_asked_for_until_the_task_ends(
    server: ApiServer, start: Start
) -> None:
    hasty = dataclasses.replace(QUICK.client, delete=RetryPolicy(budget=0.05, first=0.02, longest=0.05))
    async with start(dataclasses.replace(QUICK, client=hasty)) as backend:
        execution = await launch(backend)
        server.faults["delete", "jobs"].extend([breaks] * 500)
        stopping = asyncio.create_task(execution.stop("enough"))
        await eventually(lambda: server.asked("delete", "jobs") > 10)
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED
        await stopping


async def test_a_cancellation_arrives_when_the_api_server_is_back(server: ApiServer, start: Start) -> None:
    hasty = dataclasses.replace(QUICK.client, delete=RetryPolicy(budget=0.05, first=0.02, longest=0.05))
    async with start(dataclasses.replace(QUICK, client=hasty)) as backend:
        execution = await launch(backend)
        server.faults["delete", "jobs"].extend([breaks] * 20)
        await execution.stop("enough")
        assert await ended(execution) is TaskResult.CANCELLED
        assert server.names() == []


async def test_a_permanently_refused_cancellation_is_logged(server: ApiServer, start: Start) -> None:
    async with start(IMPATIENT) as backend:
        execution = await launch(backend)
        server.faults["delete", "jobs"].extend([forbidden("delete", "jobs")] * 20)
        with pytest.raises(BackendError, match="cannot delete"):
            await execution.stop("enough")
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED


async def test_a_cancellation_that_is_refused_while_roles_are_read_comes_through(
    server: ApiServer, start: Start
) -> None:
    async with start() as backend:
        execution = await launch(backend)
        server.faults["delete", "jobs"].append(forbidden("delete", "jobs"))
        await execution.stop("enough")
        assert await ended(execution) is TaskResult.CANCELLED
        assert server.names() == []


async def test_a_cancellation_after_the_end_asks_nothing(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        execution = await launch(backend)
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED
        await execution.stop("too late")
        assert server.names() == [JOB]


async def test_a_job_with_the_same_name_and_another_uid_is_not_deleted(
    server: ApiServer, start: Start
) -> None:
    async with start() as backend:
        execution = await launch(backend)
        await server.finish(JOB)
        outcome = await execution.wait()
        server.deaf = True
        await server.remove("jobs", JOB)
        await server.put("jobs", JOB)
        await execution.release(outcome)
        assert server.names() == [JOB]


# Start and identity


async def test_an_api_server_that_is_not_there(tmp_path: Path, start: Start, server: ApiServer) -> None:
    kubeconfig = server.kubeconfig(tmp_path)
    kubeconfig.write_text(kubeconfig.read_text().replace(server.url, "http://127.0.0.1:1"))
    quick = dataclasses.replace(QUICK, patience=0.5)
    with pytest.raises(PreflightError) as caught:
        async with running_backend(kubeconfig, "ns", settings=quick):
            pass
    assert caught.value.exit_code is ExitCode.PREFLIGHT
    assert "http://127.0.0.1:1" in str(caught.value)
    assert "Connect call failed" in str(caught.value)
    assert "firewall" in str(caught.value)


async def test_an_api_server_that_never_answers(server: ApiServer, start: Start) -> None:
    server.faults["list", "jobs"].append(hangs)
    with pytest.raises(PreflightError, match="no answer in time"):
        async with start(dataclasses.replace(QUICK, patience=0.3)):
            pass


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("resource", ["jobs", "pods"])
async def test_a_missing_permission_is_named(
    server: ApiServer, start: Start, verb: str, resource: str
) -> None:
    server.faults[verb, resource].extend([forbidden(verb, resource)] * 100)
    with pytest.raises(PreflightError, match=f'cannot {verb} resource "{resource}"') as caught:
        async with asyncio.timeout(HANG_TIMEOUT), start(dataclasses.replace(QUICK, patience=3600.0)):
            pass
    assert "pods/log: get" in str(caught.value)


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("resource", ["jobs", "pods"])
async def test_an_api_server_that_does_not_know_its_roles_yet_is_asked_again(
    server: ApiServer, start: Start, verb: str, resource: str
) -> None:
    server.faults[verb, resource].extend([forbidden(verb, resource)] * 3)
    patient = dataclasses.replace(
        QUICK, watch=dataclasses.replace(QUICK.watch, refusal_patience=HANG_TIMEOUT)
    )
    async with start(patient) as backend:
        assert backend.stats.requests[verb, resource, 403] == 3


async def test_a_refusal_at_the_start_that_is_not_about_roles_is_believed_at_once(
    server: ApiServer, start: Start
) -> None:
    server.faults["list", "jobs"].append(says(403, "Forbidden", "the gateway lets nobody through"))
    with pytest.raises(PreflightError, match="the gateway lets nobody through"):
        async with start():
            pass
    assert server.asked("list", "jobs") == 1


async def test_refused_credentials_are_reported_at_the_start(server: ApiServer, start: Start) -> None:
    server.token = "another"
    with pytest.raises(PreflightError, match="does not accept the credentials") as caught:
        async with start(token="sesame"):
            pass
    assert "sesame" not in str(caught.value)
    assert server.asked("list", "jobs") == 2  # once more, after the credentials were renewed


async def test_a_token_that_rotates_is_read_again_when_it_is_refused(
    server: ApiServer, start: Start, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first")
    server.token = "first"
    async with start(tokenFile=str(token_file)) as backend:
        token_file.write_text("second")
        server.token = "second"
        execution = await launch(backend)
        await execution.stop("enough")
        assert server.asked("create", "jobs") == 2
        assert server.asked("delete", "jobs") == 1


async def test_an_api_server_that_comes_up_late_is_waited_for(server: ApiServer, start: Start) -> None:
    server.faults["list", "jobs"].extend([says(503, "ServiceUnavailable")] * 3)
    server.faults["watch", "pods"].append(breaks)
    async with start() as backend:
        assert backend.stats.requests["list", "jobs", 503] == 3
