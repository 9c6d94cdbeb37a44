"""What becomes of the records that a dead worker left, in a live backend's hands."""

import asyncio
import errno
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import AdoptableExecution, Execution, LaunchError, NoOutput
from oz_agent_worker.worker.backends.direct.environment import MARK
from oz_agent_worker.worker.backends.direct.processes import ProcessSession
from oz_agent_worker.worker.backends.direct.records import DirectState, first_state
from oz_agent_worker.worker.backends.direct.workspace import WorkspaceRoot
from oz_agent_worker.worker.backends.journal import Journal, JournalRecord
from tests.integration.worker.backends.harness import (
    WORKER_ENVIRON,
    Recorder,
    eventually,
    is_running,
    task_spec,
)
from tests.timeouts import HANG_TIMEOUT

from .host import Host, run

KEY = ExecutionKey("run", "execution")
SPEC = task_spec(task_id="run", execution_id="execution")


class DeadWorker:
    """What a worker of the same ID left on the host of a test."""

    def __init__(self, host: Host) -> None:
        self.root = WorkspaceRoot(host.root, holder="dead")
        self.root.prepare()
        self.state = first_state("run", "claude")
        self.processes: list[asyncio.subprocess.Process] = []

    def journal(self) -> Journal[DirectState]:
        journal = Journal(self.root.journal("w"), DirectState)
        journal.prepare()
        return journal

    def hold(
        self, outcome: Outcome | None = None, key: ExecutionKey = KEY, **state: Any
    ) -> JournalRecord[DirectState]:
        """Write a record and keep it, as a live worker does."""
        entry = self.journal().create(key, msgspec.structs.replace(self.state, **state))
        if outcome is not None:
            entry.conclude(outcome)
        return entry

    def leave(self, outcome: Outcome | None = None, **state: Any) -> None:
        """Leave a record, and the workspace that it names."""
        self.hold(outcome, **state).let_go()
        self.root.open(KEY).keep()

    async def process(self, *argv: str, marked: bool = True) -> asyncio.subprocess.Process:
        """Leave a process in a session of its own."""
        environment = {"PATH": WORKER_ENVIRON["PATH"]} | ({MARK: self.state.mark} if marked else {})
        process = await asyncio.create_subprocess_exec(*argv, env=environment, start_new_session=True)
        self.processes.append(process)
        return process

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def dead(host: Host) -> AsyncIterator[DeadWorker]:
    dead = DeadWorker(host)
    yield dead
    await dead.close()


async def follow(host: Host, output: Recorder | None = None, **keys: Any) -> tuple[Execution, Outcome]:
    """Start a backend and follow the one execution that it finds, to its end."""
    found: list[AdoptableExecution] = []
    await host.backend(found=found.append, **keys)
    (one,) = found
    assert one.key == KEY
    execution = one.follow(output or NoOutput())
    return execution, await execution.wait()


async def test_what_a_dead_worker_left_is_ended_and_fails_with_it(host: Host, dead: DeadWorker) -> None:
    dead.leave()
    process = await dead.process("sleep", "300")
    execution, outcome = await follow(host)
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.WORKER_LOST)
    assert "worker that ran the task died" in outcome.message
    assert await process.wait() == -signal.SIGTERM
    assert host.workspaces() == ["run"]  # until the report is delivered
    await execution.release(outcome)
    assert host.workspaces() == []
    assert host.records() == []


async def test_a_process_that_cleared_its_environment_is_found_by_its_session(
    host: Host, dead: DeadWorker
) -> None:
    process = await dead.process("sleep", "300", marked=False)
    dead.leave(sessions=(ProcessSession.of(process.pid),))
    await follow(host)
    assert await process.wait() == -signal.SIGTERM


@pytest.mark.parametrize("reboot", [False, True])
async def test_a_stranger_that_got_the_number_of_a_session_lives(
    host: Host, dead: DeadWorker, reboot: bool
) -> None:
    stranger = await dead.process("sleep", "300", marked=False)
    session = ProcessSession.of(stranger.pid)
    assert session.started is not None
    if reboot:
        dead.leave(sessions=(session,), boot="another")
    else:
        dead.leave(
            sessions=(ProcessSession(stranger.pid, session.started - 1), ProcessSession(stranger.pid, None))
        )
    _, outcome = await follow(host)
    assert outcome.reason is FailureReason.WORKER_LOST
    assert ("restarted" in outcome.message) is reboot
    assert is_running(stranger.pid)


async def test_what_is_deaf_to_term_is_killed_after_the_grace(host: Host, dead: DeadWorker) -> None:
    note = host.folder / "deaf"
    script = f"trap '' TERM; touch {note}; while :; do sleep 0.05; done"
    process = await dead.process("/bin/sh", "-c", script)
    await eventually(note.exists)
    dead.leave()
    await follow(host)
    assert await process.wait() == -signal.SIGKILL


async def test_a_recorded_outcome_is_reported_and_nothing_runs_again(host: Host, dead: DeadWorker) -> None:
    known = failed(FailureReason.CONTAINER_EXIT, "The agent ended with exit code 3", exit_code=3)
    dead.leave(known)
    process = await dead.process("sleep", "300")
    execution, outcome = await follow(host, teardown="note teardown ran")
    assert outcome == known
    assert await process.wait() == -signal.SIGTERM
    assert host.scratch.lines("teardown") == []
    await execution.release(outcome)
    assert host.records() == []


async def test_teardown_runs_with_what_the_setup_exported(host: Host, dead: DeadWorker) -> None:
    dead.leave()
    (host.private() / "environment").write_text("EXPORTED='a b'\n")
    teardown = 'echo "$EXPORTED,$OZ_RUN_ID,$WORKER_ONLY,${WARP_API_KEY-none},$CLAUDE_CONFIG_DIR"; pwd'
    output = Recorder()
    await follow(host, output, teardown=teardown)
    folder = host.root / "run"
    assert output.data == f"a b,run,not for agents,none,{host.private()}/claude\n{folder}\n".encode()


async def test_teardown_leaves_nothing_running_and_is_marked_itself(host: Host, dead: DeadWorker) -> None:
    dead.leave()
    teardown = f'setsid sleep 300 & note service $!; note mark "${MARK}"'
    await follow(host, teardown=teardown)
    assert host.scratch.lines("mark") == [dead.state.mark]
    assert not is_running(await host.scratch.noted("service"))


async def test_teardown_runs_with_the_lines_of_a_half_written_file(
    host: Host, dead: DeadWorker, caplog: pytest.LogCaptureFixture
) -> None:
    dead.leave()
    (host.private() / "environment").write_text("A=1\nEXPORTED='hidden")
    await follow(host, teardown='note teardown "$A ${EXPORTED-none}"')
    assert host.scratch.lines("teardown") == ["1 none"]
    assert "line 2: EXPORTED: the ' quote is not closed" in caplog.text
    assert "hidden" not in caplog.text


async def test_teardown_runs_without_a_file_that_cannot_be_read(
    host: Host, dead: DeadWorker, caplog: pytest.LogCaptureFixture
) -> None:
    dead.leave()
    (host.private() / "environment").unlink()
    os.mkfifo(host.private() / "environment")
    await follow(host, teardown='note teardown "${EXPORTED-none}"')
    assert host.scratch.lines("teardown") == ["none"]
    assert "without what the setup command exported: it is not a regular file" in caplog.text


async def test_without_cleanup_the_workspace_stays_and_the_record_does_not(
    host: Host, dead: DeadWorker
) -> None:
    dead.leave()
    execution, outcome = await follow(host, cleanup=False)
    await execution.release(outcome)
    assert host.workspaces() == ["run"]
    assert host.records() == []
    with_another = await host.backend()
    assert (await run(with_another, task_spec(task_id="run", execution_id="second"))).exit_code is None


async def test_a_workspace_that_never_existed_needs_no_teardown(host: Host, dead: DeadWorker) -> None:
    dead.hold().let_go()
    execution, outcome = await follow(host, teardown="note teardown ran")
    assert outcome.reason is FailureReason.WORKER_LOST
    assert host.scratch.lines("teardown") == []
    await execution.release(outcome)
    assert host.left() == []


@pytest.mark.parametrize("kind", ["held", "link"])
async def test_a_workspace_that_is_anothers_is_left_alone(host: Host, dead: DeadWorker, kind: str) -> None:
    dead.hold().let_go()
    if kind == "held":
        holder = dead.root.open(ExecutionKey("run", "of another worker"))
    else:
        (host.root / "run").symlink_to(host.folder)
    execution, outcome = await follow(host, teardown="note teardown ran")
    assert outcome.reason is FailureReason.WORKER_LOST
    await execution.release(outcome)
    assert host.scratch.lines("teardown") == []
    assert host.workspaces() == ["run"]
    assert host.scratch.folder.is_dir()
    if kind == "held":
        holder.keep()


async def test_stopping_what_is_being_ended_waits_for_its_end(host: Host, dead: DeadWorker) -> None:
    dead.leave()
    process = await dead.process("sleep", "300")
    found: list[AdoptableExecution] = []
    await host.backend(found=found.append)
    execution = found[0].follow(NoOutput())
    await execution.stop("cancellation requested")
    assert not is_running(process.pid)
    assert (await execution.wait()).reason is FailureReason.WORKER_LOST


@pytest.mark.parametrize("outcome", [None, succeeded()])
async def test_a_recovered_execution_says_whether_it_had_ended(
    host: Host, dead: DeadWorker, outcome: Outcome | None
) -> None:
    dead.leave(outcome)
    found: list[AdoptableExecution] = []
    await host.backend(found=found.append)
    assert [one.ended for one in found] == [outcome is not None]


# Who has it


async def test_what_a_live_worker_has_is_neither_found_nor_launched(host: Host, dead: DeadWorker) -> None:
    entry = dead.hold()
    found: list[AdoptableExecution] = []
    backend = await host.backend(found=found.append)
    assert found == []
    with pytest.raises(LaunchError, match="is locked") as caught:
        await backend.launch(SPEC, NoOutput())
    assert caught.value.outcome is None
    assert host.scratch.lines("agent") == []
    entry.let_go()


async def test_what_the_other_worker_leaves_when_it_dies_is_found_by_the_one_that_lives(
    host: Host, dead: DeadWorker
) -> None:
    entry, found = dead.hold(), asyncio.Queue[AdoptableExecution]()
    await host.backend(found=found.put_nowait, look_interval=0.01)
    entry.let_go()
    async with asyncio.timeout(HANG_TIMEOUT):
        one = await found.get()
    execution = one.follow(NoOutput())
    outcome = await execution.wait()
    assert outcome.reason is FailureReason.WORKER_LOST
    await execution.release(outcome)
    assert host.records() == []
    assert found.empty()


@pytest.mark.parametrize("seen", ["at the start", "since"])
async def test_an_assignment_of_what_was_left_follows_it_and_runs_nothing(
    host: Host, dead: DeadWorker, seen: str
) -> None:
    if seen == "at the start":
        dead.leave()
    found: list[AdoptableExecution] = []
    backend = await host.backend(found=found.append)
    if seen == "since":
        dead.leave()
    execution = await backend.launch(SPEC, NoOutput())
    for one in found:
        assert one.follow(NoOutput()) is execution
    outcome = await execution.wait()
    assert outcome.reason is FailureReason.WORKER_LOST
    await execution.release(outcome)
    assert host.scratch.lines("agent") == []
    assert host.left() == []


async def test_what_is_found_and_not_followed_stays_for_the_next_worker(host: Host, dead: DeadWorker) -> None:
    dead.leave()
    process = await dead.process("sleep", "300")
    first = await host.backend()
    await first.close()
    assert is_running(process.pid)
    _, outcome = await follow(host)
    assert outcome.reason is FailureReason.WORKER_LOST


async def test_a_follow_up_of_the_run_has_a_workspace_of_its_own_meanwhile(
    host: Host, dead: DeadWorker
) -> None:
    dead.leave()
    host.agent("pwd")
    backend, output = await host.backend(), Recorder()
    outcome = await run(backend, task_spec(task_id="run", execution_id="follow-up"), output)
    assert outcome.result is TaskResult.SUCCEEDED
    assert output.data.decode().strip() != str(host.root / "run")
    assert host.workspaces() == ["run"]


async def test_an_outcome_undelivered_at_close_is_reported_by_the_next_worker(host: Host) -> None:
    host.agent("note agent ran; exit 3")
    first = await host.backend()
    outcome = await (await first.launch(SPEC, NoOutput())).wait()
    await first.close()
    execution, again = await follow(host)
    assert again == outcome
    await execution.release(again)
    assert host.scratch.lines("agent") == ["ran"]
    assert host.left() == []


async def test_what_closing_ends_is_no_cancellation(host: Host) -> None:
    host.agent("note agent ran; hold never")
    first = await host.backend()
    await first.launch(SPEC, NoOutput())
    await host.scratch.noted("agent")
    await first.close()
    _, outcome = await follow(host)
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.GRACEFUL_SHUTDOWN)


async def test_a_cancellation_that_was_not_delivered_stays_one(host: Host) -> None:
    host.agent("note agent ran; hold never")
    first = await host.backend()
    execution = await first.launch(SPEC, NoOutput())
    await host.scratch.noted("agent")
    await execution.stop("cancellation requested")
    await first.close()
    _, outcome = await follow(host)
    assert outcome.result is TaskResult.CANCELLED


# Trouble with the disk


async def test_an_unreadable_record_is_logged_and_its_task_does_not_run(
    host: Host, dead: DeadWorker, caplog: pytest.LogCaptureFixture
) -> None:
    dead.leave()
    (path,) = host.records()
    path.write_bytes(path.read_bytes()[:40])
    found: list[AdoptableExecution] = []
    backend = await host.backend(found=found.append)
    assert found == []
    assert str(path) in caplog.text
    with pytest.raises(LaunchError) as caught:
        await backend.launch(SPEC, NoOutput())
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.WORKER_LOST
    assert (await run(backend, task_spec())).result is TaskResult.SUCCEEDED


async def test_a_journal_that_cannot_be_is_a_diagnosis(host: Host, dead: DeadWorker) -> None:
    folder = dead.root.journal("w")
    folder.touch()
    with pytest.raises(
        PreflightError, match=r"workspace_root: .* cannot hold the records of tasks"
    ) as caught:
        await host.backend()
    assert str(folder) in str(caught.value)


class FullDisk:
    """Fails one call of a function of ``os``, the one after ``calls`` others."""

    def __init__(self, function: Callable[..., Any], calls: int) -> None:
        self._function = function
        self._left = calls

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._function(*arguments, **keywords)


@pytest.mark.parametrize(
    ("call", "others"),
    # The first open(2) looks for a record, and does not matter where there is none.
    [("link", 0), ("mkdir", 0), ("mkdir", 1), ("write", 0)] + [("open", n) for n in range(1, 5)],
)
async def test_a_disk_that_fails_at_the_start_hands_the_task_back_and_keeps_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, call: str, others: int
) -> None:
    backend = await host.backend()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, FullDisk(getattr(os, call), others))
        with pytest.raises(LaunchError, match="No space") as caught:
            await backend.launch(SPEC, NoOutput())
    assert caught.value.outcome is None
    assert host.left() == []
    assert (await run(backend, SPEC)).result is TaskResult.SUCCEEDED
    assert host.left() == []


async def test_an_outcome_that_cannot_be_written_is_still_reported(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    backend = await host.backend(teardown="note teardown ran")
    monkeypatch.setattr(os, "fsync", full)
    outcome = await run(backend, SPEC)
    assert outcome == succeeded()
    assert host.scratch.lines("teardown") == ["ran"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert host.left() == []


async def test_a_session_that_cannot_be_written_down_does_not_fail_the_task(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    backend = await host.backend()
    with monkeypatch.context() as patched:
        patched.setattr(JournalRecord, "save", full)
        assert (await run(backend, SPEC)).result is TaskResult.SUCCEEDED
    assert "cannot write its record" in caplog.text
