"""What every backend promises of the executions that an earlier worker left, as tests."""

import pytest

from oz_agent_worker.protocol.outcome import TaskResult, cancelled
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import AdoptableExecution, Backend, NoOutput
from oz_agent_worker.worker.task_spec import TaskSpec

from .contract_steps import HOLDING, ContractSteps
from .harness import Harness, Recorder, eventually, is_running, task_spec

__all__ = ["AdoptionContract"]


def key_of(spec: TaskSpec) -> ExecutionKey:
    """Name the execution that a spec is of."""
    return spec.key


class AdoptionContract(ContractSteps):
    """A part of ``contract.BackendContract``."""

    async def test_an_execution_without_its_worker_is_adopted_or_reported_as_failed(
        self, harness: Harness
    ) -> None:
        spec, output = task_spec(), Recorder()
        harness.agent(harness.scratch.script(HOLDING + "echo done"))
        first = await harness.backend()
        await first.launch(spec, NoOutput())
        await harness.scratch.noted("child")
        await first.close()
        second, found = await self.restarted(harness)
        assert [f.key for f in found] == [key_of(spec)]
        execution = found[0].follow(output)
        harness.scratch.note("go")
        outcome = await execution.wait()
        if second.survives_worker:
            assert (outcome.result, output.data) == (TaskResult.SUCCEEDED, b"done\n")
        else:
            assert (outcome.result, outcome.reason is None) == (TaskResult.FAILED, False)
        assert harness.scratch.lines("starts") == ["again"]
        await execution.release(outcome)
        await self.nothing_left(harness)
        assert (await self.restarted(harness))[1] == []

    @pytest.mark.parametrize("code", [0, 3])
    async def test_an_end_that_was_not_delivered_is_found_again(self, harness: Harness, code: int) -> None:
        spec = task_spec()
        harness.agent(f"exit {code}")
        first = await harness.backend()
        execution = await first.launch(spec, NoOutput())
        outcome = await execution.wait()
        await first.close()
        _, found = await self.restarted(harness)
        assert [f.key for f in found] == [key_of(spec)]
        again = found[0].follow(NoOutput())
        assert await again.wait() == outcome
        await again.release(outcome)

    async def test_an_end_that_was_delivered_is_found_no_more(self, harness: Harness) -> None:
        harness.agent("exit 0")
        await self.run(harness, task_spec())
        assert (await self.restarted(harness))[1] == []

    async def test_what_was_found_can_be_cancelled(self, harness: Harness) -> None:
        harness.agent(harness.scratch.script(HOLDING))
        first = await harness.backend()
        if not first.survives_worker:
            pytest.skip("nothing goes on without its worker")
        await first.launch(task_spec(), NoOutput())
        pids = [await harness.scratch.noted("agent"), await harness.scratch.noted("child")]
        await first.close()
        _, found = await self.restarted(harness)
        execution = found[0].follow(NoOutput())
        await execution.stop("cancelled by a test")
        outcome = await execution.wait()
        assert outcome == cancelled("cancelled by a test")
        await eventually(lambda: not any(map(is_running, pids)))
        await execution.release(outcome)
        await self.nothing_left(harness)

    async def test_a_worker_finds_nothing_of_its_own(self, harness: Harness) -> None:
        harness.agent("exit 0")
        found: list[AdoptableExecution] = []
        backend = await harness.backend(found=found.append)
        execution = await backend.launch(task_spec(), NoOutput())
        await execution.release(await execution.wait())
        assert found == []

    async def test_a_started_backend_has_an_instance(self, harness: Harness) -> None:
        backend = await harness.backend()
        assert backend.instance

    async def restarted(self, harness: Harness) -> tuple[Backend, list[AdoptableExecution]]:
        """Start the same worker once more; return it with what it has found by then."""
        found: list[AdoptableExecution] = []
        return await harness.backend(found=found.append), found
