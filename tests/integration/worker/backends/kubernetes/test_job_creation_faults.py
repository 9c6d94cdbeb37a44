"""A Job is created once, whatever becomes of the requests and their answers."""

import asyncio
import dataclasses
import time
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, TaskResult
from oz_agent_worker.worker.backends.base import LaunchError, NoOutput
from tests.integration.worker.backends.harness import eventually

from .api_server import ApiServer, answers_and_breaks, breaks, forbidden, says
from .driven_worker import DrivenWorker
from .scripted import JOB, Start, ended, launch
from .worker import IMPATIENT, task


@pytest.mark.parametrize(
    "faults",
    [[says(500, "InternalError")] * 3, [breaks], [says(429, "TooManyRequests")] * 3, [says(409, "Conflict")]],
    ids=["500", "broken", "429", "quota conflict"],
)
async def test_a_creation_that_fails_in_passing_is_tried_again(
    server: ApiServer, start: Start, faults: list[Any]
) -> None:
    server.faults["create", "jobs"].extend(faults)
    async with start() as backend:
        await launch(backend)
        assert server.names() == [JOB]
        assert server.asked("create", "jobs") == len(faults) + 1


async def test_a_retry_after_is_honoured(server: ApiServer, start: Start) -> None:
    server.faults["create", "jobs"].append(says(429, "TooManyRequests", Retry_After="1"))
    async with start() as backend:
        began = time.monotonic()
        await launch(backend)
        assert time.monotonic() - began >= 1.0


async def test_a_creation_whose_answer_was_lost_is_looked_for(server: ApiServer, start: Start) -> None:
    server.faults["create", "jobs"].append(answers_and_breaks)
    async with start() as backend:
        server.deaf = True  # or else the watch would report it first
        execution = await launch(backend)
        assert (server.asked("create", "jobs"), server.asked("get", "jobs")) == (2, 1)
        server.deaf = False
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED


async def test_a_creation_that_was_certainly_not_carried_out_goes_back_to_the_queue(
    server: ApiServer, start: Start
) -> None:
    async with start(IMPATIENT) as backend:
        server.faults["create", "jobs"].extend([says(429, "TooManyRequests")] * 500)
        with pytest.raises(LaunchError, match="could not be created") as caught:
            await launch(backend)
    assert caught.value.outcome is None
    assert server.names() == []


async def test_a_creation_that_may_have_come_about_is_asked_for_until_it_is_known(
    server: ApiServer, start: Start
) -> None:
    async with start(IMPATIENT) as backend:
        server.deaf = True
        server.faults["create", "jobs"].extend([answers_and_breaks] + [breaks] * 500)
        server.faults["get", "jobs"].extend([breaks] * 5)
        await launch(backend)
    assert server.asked("delete", "jobs") == 0


async def test_a_creation_that_never_came_about_goes_back_to_the_queue(
    server: ApiServer, start: Start
) -> None:
    """K5: after the patience a read settles it."""
    async with start(IMPATIENT) as backend:
        server.faults["create", "jobs"].extend([breaks] * 500)
        with pytest.raises(LaunchError, match="could not be created") as caught:
            await launch(backend)
    assert caught.value.outcome is None
    assert server.names() == []
    assert server.asked("get", "jobs") > 0


async def test_a_worker_takes_a_cancellation_while_a_creation_is_tried_again(
    server: ApiServer, start: Start
) -> None:
    """K5: a webhook that fails closed hinders every creation."""
    async with start() as backend:
        worker = DrivenWorker(backend)
        said = 'Internal error occurred: failed calling webhook "a.b.c": failed to call webhook'
        server.faults["create", "jobs"].extend([says(500, "InternalError", said)] * 5000)
        worker.assign("run")
        await eventually(lambda: server.asked("create", "jobs") > 2)
        worker.cancel("run")
        assert await worker.ended("run") is TaskResult.CANCELLED
    assert server.names() == []
    assert server.asked("get", "jobs") == 0


async def test_a_task_that_cannot_be_created_for_now_is_rejected_with_the_cluster_s_words(
    server: ApiServer, start: Start
) -> None:
    """K5: they are for the run, which waits in the queue."""
    async with start(IMPATIENT) as backend:
        worker = DrivenWorker(backend)
        said = 'Internal error occurred: failed calling webhook "a.b.c": failed to call webhook'
        server.faults["create", "jobs"].extend([says(500, "InternalError", said)] * 5000)
        worker.assign("run")
        await eventually(lambda: worker.rejections != [])
        assert said in worker.messages[0]
    assert worker.claims == []


@pytest.mark.parametrize("created", [True, False])
async def test_a_refusal_after_a_lost_answer_is_believed_when_no_job_exists(
    server: ApiServer, start: Start, created: bool
) -> None:
    """A quota may be used up by the very Job whose creation was not heard of."""
    quota = says(403, "Forbidden", "exceeded quota" if created else "a policy says no")
    async with start() as backend:
        server.deaf = True
        server.faults["create", "jobs"].extend([answers_and_breaks if created else breaks, quota])
        server.faults["get", "jobs"].extend([breaks, says(403, "Forbidden", "roles are not read yet")])
        if created:
            await launch(backend)
        else:
            with pytest.raises(LaunchError, match="a policy says no") as caught:
                await launch(backend)
            assert caught.value.outcome is not None


async def test_a_launch_that_is_given_up_in_doubt_is_not_reported(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        server.deaf = True
        server.faults["create", "jobs"].extend([answers_and_breaks] + [breaks] * 500)
        launching = asyncio.create_task(launch(backend))
        await eventually(lambda: server.asked("create", "jobs") > 3)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching
    assert server.names() == [JOB]


async def test_a_creation_that_the_watch_confirms_counts_as_created(server: ApiServer, start: Start) -> None:
    async def creates_and_breaks_ever_after(request: Any, handler: Any) -> Any:
        server.faults["create", "jobs"].extend([breaks] * 500)
        return await answers_and_breaks(request, handler)

    async with start() as backend:
        server.faults["create", "jobs"].append(creates_and_breaks_ever_after)
        execution = await launch(backend)
        await server.finish(JOB)
        assert await ended(execution) is TaskResult.SUCCEEDED
        assert server.asked("delete", "jobs") == 0


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (422, "Invalid"), (400, "BadRequest")])
async def test_a_refusal_fails_the_task_with_the_servers_message(
    server: ApiServer, start: Start, code: int, reason: str
) -> None:
    server.faults["create", "jobs"].append(says(code, reason, "no Pod of this kind here"))
    async with start() as backend:
        with pytest.raises(LaunchError) as caught:
            await launch(backend)
    outcome = caught.value.outcome
    assert outcome is not None
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.JOB_CREATE)
    assert "no Pod of this kind here" in outcome.message


async def test_a_refusal_while_roles_are_read_is_no_task_s_fault(server: ApiServer, start: Start) -> None:
    async with start() as backend:
        server.faults["create", "jobs"].extend([forbidden("create", "jobs")] * 2)
        await launch(backend)
    assert server.names() == [JOB]


async def test_a_task_that_the_worker_may_not_run_goes_back(server: ApiServer, start: Start) -> None:
    async with start(IMPATIENT) as backend:
        server.faults["create", "jobs"].extend([forbidden("create", "jobs")] * 50)
        with pytest.raises(LaunchError, match="cannot create") as caught:
            await launch(backend)
    assert caught.value.outcome is None


async def test_a_job_that_is_still_being_deleted_is_not_adopted(server: ApiServer, start: Start) -> None:
    annotations = {"oz.warp.dev/task-id": "run", "oz.warp.dev/execution-id": "run-1"}
    metadata = {"annotations": annotations, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    await server.put("jobs", JOB, metadata=metadata)
    async with start() as backend:
        with pytest.raises(LaunchError, match="still being deleted") as caught:
            await launch(backend)
    assert caught.value.outcome is None


@pytest.mark.parametrize("what", ["an argument", "the Job"])
async def test_a_task_that_is_too_large_is_not_sent(server: ApiServer, start: Start, what: str) -> None:
    """K12: it fails with a reason that says that no other try helps."""
    large = {f"V{n}": Secret("x" * 120_000) for n in range(14)}
    change: dict[str, Any] = {"environment": large} if what == "the Job" else {"arguments": ("x" * 200_000,)}
    async with start() as backend:
        with pytest.raises(LaunchError, match=r"bytes, and (etcd stores|Linux passes)") as caught:
            await backend.launch(dataclasses.replace(task("run"), **change), NoOutput())
    outcome = caught.value.outcome
    assert outcome is not None
    assert (outcome.reason, outcome.phase) == (FailureReason.TASK_TOO_LARGE, FailurePhase.ASSIGNMENT)
    assert server.asked("create", "jobs") == 0
