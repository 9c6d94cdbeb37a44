"""Whatever a backend does wrong, the task is reported and its slot comes back."""

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outbox import Claim
from oz_agent_worker.protocol.outcome import failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Delivered
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError

from .scripted import Bench, Step, settle

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
BROKE = failed(FailureReason.CONTAINER_EXIT, "it broke", exit_code=1)
UNEXPECTED = failed(FailureReason.UNKNOWN, "The worker failed unexpectedly: RuntimeError")
SHUT_DOWN = failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")


async def test_a_launch_that_fails_for_the_task_s_own_reasons_fails_the_task() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=LaunchError("no such image", BROKE))
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, BROKE)]
    assert bench.rejections == []
    await bench.finish()


async def test_a_launch_that_fails_for_the_backend_s_reasons_gives_the_task_back() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=LaunchError("no cluster"))
    bench.assign("a")
    await settle()
    assert bench.sent() == []
    assert bench.rejections == [(A, "backend_unavailable")]
    assert bench.closed
    bench.backend.launch_steps.clear()
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A)]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_what_another_worker_has_in_its_hands_is_neither_reported_nor_given_back() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = step = Step()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    step.end(OwnedByAnotherWorkerError("its worker lives"))
    await settle()
    assert bench.sent() == []
    assert bench.rejections == []
    assert bench.closed


async def test_an_unexpected_error_of_launch() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=RuntimeError("bug"))
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, UNEXPECTED)]
    await bench.finish()


async def test_an_unexpected_error_of_wait_ends_the_work_and_the_task() -> None:
    bench = Bench(capacity=1)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.ended.set_exception(RuntimeError("bug"))
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, UNEXPECTED)]
    assert execution.stops == ["the worker lost track of it"]
    await bench.finish()
    assert execution.releases == [UNEXPECTED]


async def test_an_unexpected_error_of_stop_leaves_the_task_to_its_own_end() -> None:
    bench = Bench(capacity=1)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.stop_step = Step(error=RuntimeError("bug"))
    bench.cancel("a")
    await settle()
    assert bench.sent() == [Claim(A)]
    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [TerminalReport(A, succeeded())]
    await bench.finish()


async def test_an_error_of_a_stop_that_waited_for_the_launch_is_harmless_too() -> None:
    bench = Bench(capacity=1)
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    bench.cancel("a")

    bench.backend.stop_error = RuntimeError("bug")
    step.end()
    await settle()
    execution = bench.backend.executions["a"]
    assert execution.stops == ["cancellation requested"]
    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await bench.finish()


@pytest.mark.parametrize("error", [RuntimeError("bug"), LaunchError("odd"), OSError(28, "disk full")])
async def test_an_error_of_release_is_harmless(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.backend.executions["a"].release_step = Step(error=error)
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await bench.finish()
    assert f"Task a: cleaning up failed: {error}" in caplog.messages


async def test_the_log_line_of_a_failed_task_has_everything_but_its_own_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    bench = Bench()
    bench.assign("a")
    await settle()
    why = "Container `setup` ended with exit code 128: correct backend.kubernetes.setup_command"
    outcome = failed(FailureReason.SETUP_COMMAND, why, exit_code=128, task_text=TaskText("canary"))
    bench.backend.executions["a"].ended.set_result(outcome)
    await settle()
    assert bench.sent()[-1] == TerminalReport(A, outcome)
    await bench.finish()
    assert f"Task a failed (setup_command): {why}" in caplog.messages
    assert "canary" not in caplog.text


async def test_a_delivery_of_what_is_not_in_hand_is_ignored() -> None:
    Bench().worker.on_event(Delivered((TerminalReport(A, succeeded()),)))
