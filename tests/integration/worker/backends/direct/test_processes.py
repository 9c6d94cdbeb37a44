import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.direct import output as output_module
from oz_agent_worker.worker.backends.direct.output import OutputPipe
from oz_agent_worker.worker.backends.direct.processes import (
    CommandNotStartedError,
    ProcessSession,
    ProcessSet,
    RunningCommand,
    end_processes,
)
from tests.integration.worker.backends.harness import Recorder, eventually, is_running

MARK = "OZ_TEST_MARK=/a/b"
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "OZ_TEST_MARK": "/a/b"}


class Shells:
    """Starts shells that end with the test."""

    def __init__(self) -> None:
        self._commands: list[tuple[RunningCommand, int]] = []

    async def start(self, script: str, *, marked: bool = True) -> RunningCommand:
        """Start a shell that prints a line once it runs, and wait for that."""
        environment = ENVIRONMENT if marked else {"PATH": ENVIRONMENT["PATH"]}
        reader, writer = os.pipe()
        command = await RunningCommand.start(
            ("/bin/sh", "-c", script), directory=Path("/"), environment=environment, output=writer
        )
        os.close(writer)
        self._commands.append((command, reader))
        assert await asyncio.to_thread(os.read, reader, 1) == b"\n"
        return command

    async def close(self) -> None:
        for command, reader in self._commands:
            command.kill()
            await command.wait()
            os.close(reader)


@pytest.fixture
async def shells() -> AsyncIterator[Shells]:
    shells = Shells()
    yield shells
    await shells.close()


async def test_processes_are_found_by_mark_or_session_unless_spared(shells: Shells) -> None:
    marked = await shells.start("echo; exec sleep 300")
    other = await shells.start("echo; exec sleep 300", marked=False)
    both = {marked.pid: marked.pid, other.pid: other.pid}
    assert ProcessSet(MARK.encode()).find() == {marked.pid: marked.pid}
    assert ProcessSet(sessions=frozenset({other.session})).find() == {other.pid: other.pid}
    assert ProcessSet(MARK.encode(), frozenset({other.session})).find() == both
    assert ProcessSet(MARK.encode(), spared=frozenset({marked.pid})).find() == {}


async def test_a_stranger_under_the_number_of_a_session_is_left_alone(shells: Shells) -> None:
    stranger = await shells.start("echo; exec sleep 300", marked=False)
    started = stranger.session.started
    assert started is not None
    for other in (started - 1, None):
        for orphans in (True, False):
            reused = ProcessSession(stranger.pid, other)
            assert ProcessSet(MARK.encode(), frozenset({reused}), orphans=orphans).find() == {}


@pytest.mark.parametrize("leader", ["kill -9 $$", "exit"])
async def test_a_session_without_its_leader_belongs_where_it_was_watched_or_has_the_mark(
    shells: Shells, leader: str
) -> None:
    # Both children stay in the shell's session; the one that cleared its environment is found through it.
    for marked in ("", "sleep 300 & "):
        command = await shells.start(f"{marked}env -i sleep 300 & echo; {leader}")
        await command.wait()
        watched = ProcessSet(sessions=frozenset({command.session}))
        with_mark = ProcessSet(MARK.encode())
        counts = (2, 1) if marked else (1, 0)
        await eventually(lambda: (len(watched.find()), len(with_mark.find())) == counts)  # noqa: B023
        unwatched = ProcessSet(MARK.encode(), watched.sessions, orphans=False)
        assert unwatched.find() == (watched.find() if marked else {})
        await end_processes(watched, grace=1)


async def test_a_mark_is_the_whole_entry(shells: Shells) -> None:
    await shells.start("echo; exec sleep 300")
    for mark in ("OZ_TEST_MARK=/a", "OZ_TEST_MARK=/a/b/", "TEST_MARK=/a/b", "OZ_TEST_MARK="):
        assert ProcessSet(mark.encode()).find() == {}


async def test_a_zombie_does_not_run(shells: Shells) -> None:
    # The shell's replacement never asks after the child that the shell had.
    command = await shells.start("sleep 0 & echo; exec sleep 300")
    await eventually(lambda: list(ProcessSet(MARK.encode()).find()) == [command.pid])


async def test_ending_kills_what_is_deaf_to_term(shells: Shells) -> None:
    deaf = await shells.start("trap '' TERM; echo; while :; do sleep 0.1; done")
    obedient = await shells.start("echo; exec sleep 300")
    assert await end_processes(ProcessSet(MARK.encode()), grace=0.1) == frozenset()
    assert not is_running(deaf.pid)
    assert await deaf.wait() == 128 + signal.SIGKILL
    assert await obedient.wait() == 128 + signal.SIGTERM


async def test_without_proc_the_process_group_is_what_is_found(
    shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await shells.start("echo; exec sleep 300")
    process_set = ProcessSet(MARK.encode(), frozenset({command.session}))
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert process_set.find() == {-command.pid: command.pid}
    await end_processes(process_set, grace=5)
    assert await command.wait() == 128 + signal.SIGTERM
    assert process_set.find() == {}


async def test_stopping_gives_the_whole_group_its_grace(shells: Shells, tmp_path: Path) -> None:
    tidy = f"trap 'sleep 0.2; echo done > {tmp_path}/tidy; exit' TERM; echo; while :; do sleep 0.01; done"
    command = await shells.start(f"trap 'exit 5' TERM; sh -c \"{tidy}\" & wait")
    await command.stop(grace=10)
    assert await command.wait() == 5
    assert (tmp_path / "tidy").read_text() == "done\n"


async def test_a_command_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    cases = [
        ((str(tmp_path / "missing"),), "No such file"),
        ((str(program),), "Permission denied"),
        (("/bin/true", "hidden" * 40_000), "argument 2 has 240000 bytes"),
        (("/bin/true", "hidden\0"), "NUL character"),
        (("/bin/true", "hidden\ud800"), "not Unicode"),
    ]
    for argv, why in cases:
        with pytest.raises(CommandNotStartedError, match=why) as caught:
            await RunningCommand.start(argv, directory=tmp_path, environment={}, output=sys.stderr.fileno())
        assert "hidden" not in str(caught.value)


async def test_a_writer_that_stays_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "_DRAIN_TIME", 0.05)
    recorder = Recorder()
    pipe = OutputPipe(recorder)
    stays = os.dup(pipe.writer)
    await pipe.open()
    os.write(stays, b"before the end")
    await pipe.drain()
    assert recorder.data == b"before the end"
    with pytest.raises(BrokenPipeError):
        await asyncio.to_thread(os.write, stays, b"after it")
    os.close(stays)
