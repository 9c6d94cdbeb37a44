"""What the tests of the backend contract do again and again."""

import pytest

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.base import Execution, LaunchError, NoOutput
from oz_agent_worker.worker.task_spec import TaskSpec

from .harness import Harness, Recorder, eventually, is_running, task_spec

__all__ = ["HOLDING", "ContractSteps"]

#: Notes its process ID and a child's, and goes on until the test says "go".
HOLDING = """
note starts again
sh -c 'echo $$ >> "$1"; exec sleep 300' - "$scratch/child" &
note agent $$
hold go
kill $!
"""


class ContractSteps:
    """The steps; a backend's own module overrides the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> Harness:
        """Return the harness of the backend under test."""
        raise NotImplementedError

    async def run(self, harness: Harness, spec: TaskSpec, output: Recorder | None = None) -> Outcome:
        """Run a task from launch to release; a refused launch has an outcome too."""
        backend = await harness.backend()
        try:
            execution = await backend.launch(spec, output or NoOutput())
        except LaunchError as error:
            if error.outcome is None:
                raise
            return error.outcome
        outcome = await execution.wait()
        await execution.release(outcome)
        return outcome

    async def hold(self, harness: Harness, script: str) -> tuple[Execution, list[str]]:
        """Launch an agent and return when it runs, with the IDs of its process and its child's."""
        harness.agent(harness.scratch.script(script))
        backend = await harness.backend()
        execution = await backend.launch(task_spec(), NoOutput())
        pids = [await harness.scratch.noted("agent"), await harness.scratch.noted("child")]
        assert all(map(is_running, pids))
        return execution, pids

    async def nothing_left(self, harness: Harness) -> None:
        """Wait until no trace is left: a cluster takes its time."""

        async def nothing() -> bool:
            return await harness.left() == []

        await eventually(nothing)
