"""Workers that go away, on real sockets, with the control plane's clock in the test's hand."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.times import micros, system_clock
from tests.timeouts import HANG_TIMEOUT

from .conftest import Connect
from .support import Frame, ScriptedWorker, until

Reaches = Callable[..., Any]
GRACE = 600


def user(server: ControlPlane, key: Secret) -> AsyncOzAPI:
    return AsyncOzAPI(
        base_url=f"{server.url}/api/v1", api_key=key.reveal(), max_retries=0, timeout=HANG_TIMEOUT
    )


class Clock:
    """The wall clock, ahead by as much as the test let pass."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return system_clock() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock whose leaps are time in which the control plane listens."""
    monkeypatch.setattr("oz_agent_worker.controlplane.rules.leases._PAUSE", micros(100 * GRACE))
    return Clock()


@pytest.fixture
async def server(settings: ControlPlaneSettings, clock: Clock) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings, clock=clock) as server:
        yield server


@pytest.fixture
def time_passes(clock: Clock, sdk: AsyncOzAPI) -> Callable[[float], Any]:
    async def pass_time(seconds: float) -> None:
        clock.ahead += micros(seconds)
        # A timer that was set before knows nothing of this: a run for an unknown worker wakes the dispatcher.
        await sdk.agent.run(prompt="wake", config={"worker_host": "nobody"})

    return pass_time


async def is_awaited(sdk: AsyncOzAPI, run_id: str) -> Any:
    """Wait until the control plane has noticed that a run's worker is away."""

    def waiting(run: Any) -> bool:
        return bool(run.status_message and run.status_message.message.startswith("Waiting since"))

    return await until(lambda: sdk.agent.runs.retrieve(run_id), waiting)


async def in_state(sdk: AsyncOzAPI, run_id: str, state: str) -> None:
    await until(lambda: sdk.agent.runs.retrieve(run_id), lambda run: run.state == state)


def held(task: Frame) -> Frame:
    return {"task_id": task["task_id"], "execution_id": task["execution_id"]}


async def claimed(w: ScriptedWorker, reaches: Reaches) -> Frame:
    task = await w.assignment()
    await w.claim(task)
    await reaches(task["task_id"], "CLAIMED")
    return task


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"backend": "direct", "instance": "host/a"}, {"backend": "direct", "instance": "host/a"}),
        ({"backend": "kubernetes", "instance": "pod/1"}, {"backend": "kubernetes", "instance": "pod/2"}),
    ],
)
async def test_a_run_goes_on_after_its_workers_restart(
    sdk: AsyncOzAPI, worker: Connect, before: Any, after: Any
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(**before) as w:
        task = await w.assignment()
        w.die()
    async with worker(**after) as w:
        again = await w.assignment()
        assert (again["task_id"], again["execution_id"]) == (run_id, task["execution_id"])
        await w.claim(again)
        await w.complete(again)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"


async def test_a_second_connection_of_the_same_instance_replaces_the_first(
    sdk: AsyncOzAPI, worker: Connect
) -> None:
    await sdk.agent.run(prompt="p")
    async with worker(instance="host/a") as dead:
        task = await dead.assignment()
        async with worker(instance="host/a") as w:
            assert held(await w.assignment()) == held(task)
            await w.complete(task)
            assert not await dead.hears_nothing(HANG_TIMEOUT)
            assert dead.socket.closed


async def test_two_pods_of_one_id_hand_over(sdk: AsyncOzAPI, worker: Connect, reaches: Reaches) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(backend="kubernetes", instance="pod/1") as first:
        task = await claimed(first, reaches)
        async with worker(backend="kubernetes", instance="pod/2", capacity=1) as second:
            first.die()
            await is_awaited(sdk, run_id)
            # The Job's owner is gone, so the second Pod follows it, and says so.
            await second.claim(task)
            await until(lambda: sdk.agent.runs.retrieve(run_id), lambda run: run.status_message is None)
            await second.complete(task)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"


async def test_a_worker_that_stays_away_loses_its_run_and_is_asked_to_stop_it(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(instance="host/a") as w:
        task = await claimed(w, reaches)
        await time_passes(10 * GRACE)
        assert (await sdk.agent.runs.retrieve(run_id)).state == "CLAIMED"
        w.die()
    await is_awaited(sdk, run_id)
    await time_passes(GRACE)
    run = await reaches(run_id, "ERROR")
    assert (run.status_message.error_code, run.status_message.retryable) == ("worker_lost", True)
    assert "Worker w was away, or without the run, for 10 min" in run.status_message.message
    async with worker(instance="host/a", holds=(held(task),)) as w:
        assert await w.receive("task_cancellation") == held(task)
        await w.complete(task)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "ERROR"


async def test_a_control_plane_that_restarts_often_gives_up_a_lost_worker(
    settings: ControlPlaneSettings, clock: Clock
) -> None:
    """Each life is shorter than the grace, and ends with a stop."""
    async with ControlPlane(settings, clock=clock) as server:
        key = await server.create_api_key("alice")
        async with user(server, key) as sdk, ScriptedWorker(server.websocket_url, key) as w:
            run_id = (await sdk.agent.run(prompt="p")).run_id
            await w.claim(await w.assignment())
            await in_state(sdk, run_id, "CLAIMED")
    for state in ("CLAIMED", "CLAIMED", "ERROR"):
        clock.ahead += micros(50 * GRACE)  # nobody listens: it does not count
        async with ControlPlane(settings, clock=clock) as server, user(server, key) as sdk:
            clock.ahead += micros(GRACE / 3)
            await sdk.agent.run(prompt="wake", config={"worker_host": "nobody"})
            await in_state(sdk, run_id, state)


async def test_a_run_that_is_safe_to_retry_is_run_again(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    run_id = (await sdk.agent.run(prompt="p", extra_body={"safe_to_retry": True})).run_id
    assert (await sdk.agent.runs.retrieve(run_id)).to_dict()["safe_to_retry"] is True
    async with worker("one") as w:
        first = await claimed(w, reaches)
        await w.log(first, 0, "first\n")
        await reaches(run_id, "INPROGRESS")
        w.die()
    await is_awaited(sdk, run_id)
    await time_passes(GRACE)
    await reaches(run_id, "QUEUED")
    async with worker("two") as w:
        second = await w.assignment()
        assert second["task_id"] == run_id
        assert second["execution_id"] != first["execution_id"]
        await w.claim(second)
        async with worker("one", holds=(held(first),)) as back:
            assert await back.receive("task_cancellation") == held(first)
            await back.complete(first, task_state="CANCELLED")
        await w.complete(second)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"


async def test_a_cancellation_of_a_run_whose_worker_does_not_come_back(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        await claimed(w, reaches)
        w.die()
    await is_awaited(sdk, run_id)
    await sdk.agent.runs.cancel(run_id)
    asked = await sdk.agent.runs.retrieve(run_id)
    assert asked.status_message is not None
    assert asked.status_message.message == (
        'Cancellation requested with the API key "alice"; waiting for worker w.'
    )
    await time_passes(GRACE)
    run = await reaches(run_id, "CANCELLED")
    assert run.status_message.message.startswith('Cancelled with the API key "alice"; worker w was away')


async def test_a_cancellation_that_the_worker_confirms_says_who_asked(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await claimed(w, reaches)
        await sdk.agent.runs.cancel(run_id)
        assert await w.receive("task_cancellation") == held(task)
        await w.complete(task, task_state="CANCELLED")
    run = await sdk.agent.runs.retrieve(run_id)
    assert run.status_message is not None
    assert run.status_message.message == 'Cancelled with the API key "alice"; worker w stopped it.'


async def test_a_worker_that_never_answers_loses_the_run_and_is_asked_to_stop_it(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(instance="host/a") as w:
        task = await w.assignment()
        await time_passes(30)
        await is_awaited(sdk, run_id)
        await time_passes(GRACE - 1)
        assert (await sdk.agent.runs.retrieve(run_id)).state == "PENDING"
        await time_passes(1)
        run = await reaches(run_id, "ERROR")
        assert await w.receive("task_cancellation") == held(task)
    assert (run.status_message.error_code, run.status_message.retryable) == ("worker_lost", True)
    assert "Worker w was sent the run and did not answer for 10 min" in run.status_message.message


def public(worker: Connect) -> ScriptedWorker:
    """A played public worker: no hello, no acknowledgements, and no frame that names an execution.

    It is held against the facts of the public protocol alone, not against the public worker itself.
    """
    return worker(capacity=None)


async def publicly_claimed(w: ScriptedWorker, reaches: Reaches) -> str:
    run_id: str = (await w.assignment())["task_id"]
    await w.send("task_claimed", task_id=run_id, worker_id=w.worker_id)
    await reaches(run_id, "CLAIMED")
    return run_id


async def test_a_public_workers_runs_live_as_long_as_it_is_connected(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    await sdk.agent.run(prompt="p")
    async with public(worker) as w:
        run_id = await publicly_claimed(w, reaches)
        await time_passes(10 * GRACE)
        await w.send("task_completed", task_id=run_id, message="done")
        await reaches(run_id, "SUCCEEDED")


async def test_a_public_worker_that_connects_again_reports_in_time(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    """P16: a blip. Its task went on, and its end comes on the next connection."""
    await sdk.agent.run(prompt="p")
    async with public(worker) as w:
        run_id = await publicly_claimed(w, reaches)
        w.die()
    await is_awaited(sdk, run_id)
    async with public(worker) as w:
        before = (await sdk.agent.runs.retrieve(run_id)).status_message
        await until(lambda: sdk.agent.runs.retrieve(run_id), lambda run: run.status_message != before)
        await time_passes(6 * GRACE - 60)
        assert (await sdk.agent.runs.retrieve(run_id)).state == "CLAIMED"
        await w.send("task_completed", task_id=run_id, message="done")
        await reaches(run_id, "SUCCEEDED")


@pytest.mark.parametrize(("goodbye", "graces"), [(True, 1), (False, 6)])
async def test_a_restarted_public_workers_run_ends_while_its_id_is_connected(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any, goodbye: bool, graces: int
) -> None:
    """P16: the next process has its ID, and not its tasks. ``goodbye``: a close frame with code 1000."""
    await sdk.agent.run(prompt="p")
    async with public(worker) as w:
        run_id = await publicly_claimed(w, reaches)
        if not goodbye:
            w.die()
    waiting = await is_awaited(sdk, run_id)
    async with public(worker) as w:
        if not goodbye:
            await until(
                lambda: sdk.agent.runs.retrieve(run_id),
                lambda run: run.status_message != waiting.status_message,
            )
        await time_passes(graces * GRACE - 60)
        assert (await sdk.agent.runs.retrieve(run_id)).state == "CLAIMED"
        await time_passes(60)
        run = await reaches(run_id, "ERROR")
        assert (run.status_message.error_code, run.status_message.retryable) == ("worker_lost", True)
        assert await w.receive("task_cancellation") == {"task_id": run_id}
        await w.send("task_completed", task_id=run_id, message="late", task_state="CANCELLED")
        await sdk.agent.run(prompt="after that")
        await w.assignment()
        assert (await sdk.agent.runs.retrieve(run_id)).state == "ERROR"


async def test_a_public_worker_that_only_says_that_it_cancelled(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    await sdk.agent.run(prompt="p")
    async with public(worker) as w:
        run_id = await publicly_claimed(w, reaches)
        await sdk.agent.runs.cancel(run_id)
        assert await w.receive("task_cancellation") == {"task_id": run_id}
        await w.send("task_completed", task_id=run_id, message="Task was cancelled", task_state="CANCELLED")
        run = await reaches(run_id, "CANCELLED")
    assert run.status_message.message == (
        'Cancelled with the API key "alice"; '
        "worker w reported it as cancelled, which does not show that the task stopped."
    )


async def test_a_public_worker_that_does_not_answer_a_cancellation(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, time_passes: Any
) -> None:
    """The command backend sends no frame for a task that was dispatched."""
    await sdk.agent.run(prompt="p")
    async with public(worker) as w:
        run_id = await publicly_claimed(w, reaches)
        await sdk.agent.runs.cancel(run_id)
        assert await w.receive("task_cancellation") == {"task_id": run_id}
        asked = (await sdk.agent.runs.retrieve(run_id)).status_message
        assert asked is not None
        start, _, rest = asked.message.partition(", until ")
        assert start == 'Cancellation requested with the API key "alice"; waiting for worker w'
        assert rest.endswith(" at most: it need not confirm that the task stopped.")
        await time_passes(GRACE)
        run = await reaches(run_id, "CANCELLED")
    assert run.status_message.message == (
        'Cancelled with the API key "alice"; worker w did not confirm within 10 min that the task stopped.'
    )


async def test_a_second_process_that_claims_what_the_first_has_is_stopped(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(instance="host/a") as w:
        task = await claimed(w, reaches)
        async with worker(instance="host/b", holds=(held(task),)) as other:
            assert await other.receive("task_cancellation") == held(task)
            await other.complete(task, task_state="CANCELLED")
        assert (await sdk.agent.runs.retrieve(run_id)).state == "CLAIMED"
        await w.complete(task)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"
