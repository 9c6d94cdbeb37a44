"""What every backend promises, as tests: a backend's own module derives from ``BackendContract``.

The agent is a shell script that leaves notes in a folder which the test sees too
(``harness.Scratch``), so that nothing here waits for a length of time.
"""

import asyncio

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult, cancelled
from oz_agent_worker.worker.backends.base import Backend, NoOutput
from oz_agent_worker.worker.task_spec import TaskSpec

from .adoption_contract import AdoptionContract
from .contract_steps import HOLDING
from .harness import WORKER_ENVIRON, Harness, Recorder, eventually, is_running, task_spec

__all__ = ["BackendContract"]

#: The same, deaf to TERM, and so is its child.
DEAF = "trap '' TERM\n" + HOLDING


class BackendContract(AdoptionContract):
    """Derive, and override the fixture ``harness``."""

    # Start and end

    async def test_a_launched_task_runs_to_its_end_and_leaves_nothing(self, harness: Harness) -> None:
        harness.agent(harness.scratch.script("note agent $$; hold go"))
        backend = await harness.backend()
        execution = await backend.launch(task_spec(), NoOutput())
        pid = await harness.scratch.noted("agent")  # launch returned although the agent goes on
        harness.scratch.note("go")
        outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        await execution.release(outcome)
        assert not is_running(pid)
        await self.nothing_left(harness)

    @pytest.mark.parametrize("code", [1, 42, 255])
    async def test_an_exit_code_other_than_0_is_a_failure_that_carries_it(
        self, harness: Harness, code: int
    ) -> None:
        harness.agent(f"exit {code}")
        outcome = await self.run(harness, task_spec())
        assert outcome.result is TaskResult.FAILED
        assert (outcome.reason, outcome.exit_code) == (FailureReason.CONTAINER_EXIT, code)
        assert str(code) in outcome.message

    @pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143)])
    async def test_a_signal_is_128_and_its_number(self, harness: Harness, signal: str, code: int) -> None:
        harness.agent(f"kill -{signal} $$; sleep 300")
        outcome = await self.run(harness, task_spec())
        assert (outcome.result, outcome.exit_code) == (TaskResult.FAILED, code)

    async def test_waiting_again_gives_the_same_outcome(self, harness: Harness) -> None:
        harness.agent("exit 3")
        backend = await harness.backend()
        execution = await backend.launch(task_spec(), NoOutput())
        first, second = await asyncio.gather(execution.wait(), execution.wait())
        assert first == second == await execution.wait()
        await execution.release(first)

    async def test_many_tasks_at_once_keep_apart(self, harness: Harness) -> None:
        harness.agent('echo "$1"; exit "$1"')
        backend = await harness.backend()
        recorders = [Recorder() for _ in range(20)]

        async def run(number: int) -> int | None:
            execution = await backend.launch(task_spec(str(number)), recorders[number])
            outcome = await execution.wait()
            await execution.release(outcome)
            return outcome.exit_code

        codes = await asyncio.gather(*map(run, range(20)))
        assert [code or 0 for code in codes] == list(range(20))
        assert [r.data for r in recorders] == [f"{n}\n".encode() for n in range(20)]

    # Output

    async def test_output_arrives_whole_and_in_order_before_the_end(self, harness: Harness) -> None:
        harness.agent('for i in $(seq 1 3000); do echo "line $i"; echo "other $i" >&2; done')
        output = Recorder()
        await self.run(harness, task_spec(), output)
        assert output.data == b"".join(b"line %d\nother %d\n" % (i, i) for i in range(1, 3001))

    async def test_output_of_bytes_that_are_no_text_arrives_untouched(self, harness: Harness) -> None:
        harness.agent(r"printf '\377\376 \303\050 caf\303\251\nno end of line'")
        output = Recorder()
        await self.run(harness, task_spec(), output)
        assert output.data == b"\xff\xfe \xc3\x28 caf\xc3\xa9\nno end of line"

    async def test_output_of_a_failing_task_arrives(self, harness: Harness) -> None:
        harness.agent("echo last words; exit 9")
        output = Recorder()
        await self.run(harness, task_spec(), output)
        assert output.data == b"last words\n"

    async def test_output_is_live_where_the_backend_streams(self, harness: Harness) -> None:
        if not harness.streams:
            pytest.skip("this backend hands over the output at the end of the task")
        harness.agent(harness.scratch.script("echo first; hold go; echo second"))
        backend, output = await harness.backend(), Recorder()
        execution = await backend.launch(task_spec(), output)
        await eventually(lambda: output.data == b"first\n")
        harness.scratch.note("go")
        await execution.release(await execution.wait())
        assert output.data == b"first\nsecond\n"

    async def test_unwanted_output_blocks_nothing(self, harness: Harness) -> None:
        harness.agent("head -c 1000000 /dev/zero")
        assert (await self.run(harness, task_spec())).result is TaskResult.SUCCEEDED

    # What the agent is given

    async def test_arguments_arrive_untouched(self, harness: Harness) -> None:
        arguments = ["agent", "run", "", " a  b ", "it's", '"q"', "two\nlines", "$(id)", "`id`", "$HOME"]
        arguments += ["--", "-n", "\\", "*", "naïve ☃", "$$", "%s", "$(VAR)"]
        harness.agent("printf '%s\\0' \"$@\"")
        output = Recorder()
        await self.run(harness, task_spec(*arguments), output)
        assert output.data.decode().split("\0")[:-1] == arguments

    async def test_the_environment_is_the_specs_and_then_the_backends(self, harness: Harness) -> None:
        given = {"PLAIN": "a b", "ODD": 'it\'s "q"\n$(id) $HOME ☃', "EMPTY": "", "TASK_ID": "t"}
        overruled = {"OZ_RUN_ID": "mine", "OZ_WORKER_BACKEND": "mine", "OZ_WORKSPACE_ROOT": "mine"}
        spec = task_spec(environment={**given, **overruled})
        backend, found = await self.environment(harness, spec)
        assert {name: found.get(name) for name in given} == given
        assert found["OZ_RUN_ID"] == spec.key.task_id
        assert found["OZ_WORKER_BACKEND"] == backend.name
        assert found["OZ_WORKSPACE_ROOT"].startswith("/")

    async def test_the_workers_own_environment_stays_with_the_worker(self, harness: Harness) -> None:
        _, found = await self.environment(harness, task_spec())
        assert "WORKER_ONLY" not in found
        assert WORKER_ENVIRON["WARP_API_KEY"] not in found.values()

    async def test_the_workloads_key_reaches_the_agent(self, harness: Harness) -> None:
        _, found = await self.environment(harness, task_spec(environment={"WARP_API_KEY": "the workload's"}))
        assert found["WARP_API_KEY"] == "the workload's"

    async def test_the_agent_runs_in_its_workspace(self, harness: Harness) -> None:
        harness.agent('pwd -P; cd "$OZ_WORKSPACE_ROOT" && pwd -P; touch here')
        output = Recorder()
        assert (await self.run(harness, task_spec(), output)).result is TaskResult.SUCCEEDED
        working, root = output.data.decode().splitlines()
        assert working == root

    # Cancellation

    @pytest.mark.parametrize("script", [HOLDING, DEAF], ids=["obedient", "deaf"])
    async def test_a_cancellation_ends_the_agent_and_what_it_started(
        self, harness: Harness, script: str
    ) -> None:
        execution, pids = await self.hold(harness, script)
        await execution.stop("cancelled by a test")
        outcome = await execution.wait()
        assert outcome == cancelled("cancelled by a test")
        await eventually(lambda: not any(map(is_running, pids)))
        await execution.release(outcome)
        await self.nothing_left(harness)

    async def test_a_cancellation_may_come_before_the_agent_exists(self, harness: Harness) -> None:
        harness.agent(harness.scratch.script(HOLDING))
        backend = await harness.backend()
        execution = await backend.launch(task_spec(), NoOutput())
        await execution.stop("cancelled by a test")
        outcome = await execution.wait()
        assert outcome.result is TaskResult.CANCELLED
        await execution.release(outcome)
        await self.nothing_left(harness)
        pids = harness.scratch.lines("agent") + harness.scratch.lines("child")
        await eventually(lambda: not any(map(is_running, pids)))

    async def test_a_cancellation_after_the_end_changes_nothing(self, harness: Harness) -> None:
        harness.agent("exit 0")
        backend = await harness.backend()
        execution = await backend.launch(task_spec(), NoOutput())
        outcome = await execution.wait()
        await execution.stop("too late")
        assert await execution.wait() == outcome
        assert outcome.result is TaskResult.SUCCEEDED
        await execution.release(outcome)
        await execution.stop("far too late")

    async def test_cancelling_twice_is_harmless(self, harness: Harness) -> None:
        execution, _ = await self.hold(harness, HOLDING)
        await asyncio.gather(execution.stop("first"), execution.stop("second"))
        await execution.stop("third")
        outcome = await execution.wait()
        assert outcome.result is TaskResult.CANCELLED
        await execution.release(outcome)

    async def test_a_cancellation_leaves_other_tasks_alone(self, harness: Harness) -> None:
        harness.agent(harness.scratch.script('note "$1" $$; hold go'))
        backend = await harness.backend()
        one = await backend.launch(task_spec("one"), NoOutput())
        other = await backend.launch(task_spec("other"), NoOutput())
        await asyncio.gather(harness.scratch.noted("one"), harness.scratch.noted("other"))
        await one.stop("cancelled by a test")
        await one.release(await one.wait())
        assert is_running(await harness.scratch.noted("other"))
        harness.scratch.note("go")
        outcome = await other.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        await other.release(outcome)

    # Shutdown

    async def test_a_wait_that_is_given_up_leaves_the_work_alone(self, harness: Harness) -> None:
        execution, pids = await self.hold(harness, HOLDING)
        waiting = asyncio.create_task(execution.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert all(map(is_running, pids))
        harness.scratch.note("go")
        outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        await execution.release(outcome)

    async def test_closing_ends_the_work_or_leaves_it_to_the_next_worker(self, harness: Harness) -> None:
        spec = task_spec()
        harness.agent(harness.scratch.script(HOLDING))
        first = await harness.backend()
        await first.launch(spec, NoOutput())
        pids = [await harness.scratch.noted("agent"), await harness.scratch.noted("child")]
        await first.close()
        if not first.survives_worker:
            assert not any(map(is_running, pids))
            return
        assert all(map(is_running, pids))
        second = await harness.backend()
        execution = await second.launch(spec, NoOutput())
        harness.scratch.note("go")
        outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        assert harness.scratch.lines("starts") == ["again"]
        await execution.release(outcome)

    # Launching twice, cleaning up, bad input

    async def test_an_existing_execution_is_adopted(self, harness: Harness) -> None:
        spec = task_spec()
        harness.agent(harness.scratch.script(HOLDING))
        backend = await harness.backend()
        first = await backend.launch(spec, NoOutput())
        second = await backend.launch(spec, NoOutput())
        await harness.scratch.noted("agent")
        harness.scratch.note("go")
        outcome = await first.wait()
        assert await second.wait() == outcome
        assert harness.scratch.lines("starts") == ["again"]
        await first.release(outcome)

    async def test_two_executions_of_one_run_do_not_meet(self, harness: Harness) -> None:
        harness.agent(harness.scratch.script('touch "$1"; ls; note "$1" $$; hold go'))
        backend, outputs = await harness.backend(), [Recorder(), Recorder()]
        run = task_spec().key.task_id
        specs = [task_spec(f"file-{n}", task_id=run, execution_id=f"execution-{n}") for n in range(2)]
        executions = [await backend.launch(s, o) for s, o in zip(specs, outputs, strict=True)]
        await asyncio.gather(*(harness.scratch.noted(f"file-{n}") for n in range(2)))
        harness.scratch.note("go")
        for execution in executions:
            outcome = await execution.wait()
            assert outcome.result is TaskResult.SUCCEEDED
            await execution.release(outcome)
        assert [o.data for o in outputs] == [b"file-0\n", b"file-1\n"]
        await self.nothing_left(harness)

    async def test_without_cleanup_everything_stays(self, harness: Harness) -> None:
        harness.agent("exit 0")
        backend = await harness.backend(cleanup=False)
        execution = await backend.launch(task_spec(), NoOutput())
        await execution.release(await execution.wait())
        assert await harness.left() != []

    @pytest.mark.parametrize("task_id", ["../../escape", "a/b", ".hidden", "Ünï/☃", "x" * 300])
    async def test_a_task_id_that_is_no_name_runs_or_is_refused(self, harness: Harness, task_id: str) -> None:
        harness.agent("exit 7")
        outcome = await self.run(harness, task_spec(task_id=task_id))
        assert outcome.result is TaskResult.FAILED
        assert outcome.exit_code == 7 or outcome.reason is FailureReason.WORKSPACE_SETUP

    # Helpers

    async def environment(self, harness: Harness, spec: TaskSpec) -> tuple[Backend, dict[str, str]]:
        """Return the environment that the agent sees."""
        harness.agent("env -0")
        backend, output = await harness.backend(), Recorder()
        execution = await backend.launch(spec, output)
        await execution.release(await execution.wait())
        entries = output.data.decode().split("\0")[:-1]
        return backend, dict(entry.split("=", 1) for entry in entries)
