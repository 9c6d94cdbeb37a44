"""Which worker is which: the journal that it keeps its records in, and its slot there."""

import asyncio
import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import AdoptableExecution, NoOutput
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.backends.direct.records import DirectState
from oz_agent_worker.worker.backends.journal import Journal, JournalRecord
from oz_agent_worker.worker.config.schema import DirectConfig
from tests.integration.worker.backends.harness import eventually, task_spec
from tests.timeouts import HANG_TIMEOUT

from .host import Host, run

SPEC = task_spec(task_id="run", execution_id="execution")


def peer(backend: DirectBackend) -> Peer:
    return Peer("w", backend.name, backend.instance)


def test_a_backend_has_no_instance_before_its_start(host: Host) -> None:
    config = DirectConfig(workspace_root=str(host.root), oz_path=str(host.program))
    backend = DirectBackend(config, worker_id="w", cleanup=True, environ={})
    assert backend.instance is None


async def test_another_root_at_the_same_path_of_a_host_of_the_same_name_is_another_instance(
    host: Host,
) -> None:
    here = await host.backend()
    await here.close()
    host.root.rename(host.folder / "of another machine")
    there = await host.backend()
    assert there.instance != here.instance
    assert not peer(there).same_instance(peer(here))
    assert not peer(there).may_report_for(peer(here))


async def test_a_worker_that_is_started_again_is_the_same_whatever_its_host_is_called(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await host.backend()
    await first.close()
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    (host.folder / "link").symlink_to(host.root)
    host.root = host.folder / "link"
    assert (await host.backend()).instance == first.instance


async def test_two_that_live_over_one_root_are_two_and_each_is_itself_again(host: Host) -> None:
    first, second = await host.backend(), await host.backend()
    assert first.instance != second.instance
    assert not peer(second).same_instance(peer(first))
    assert peer(second).may_report_for(peer(first))
    await first.close()
    again = await host.backend()
    assert again.instance == first.instance
    assert (await host.backend()).instance not in (first.instance, second.instance)


async def test_who_takes_what_a_dead_one_left_has_its_slot_until_that_is_delivered(host: Host) -> None:
    """Else the dead one's assignments could be sent to its successor, which knows nothing of them."""
    host.agent("note agent ran; hold never")
    found = asyncio.Queue[AdoptableExecution]()
    first = await host.backend()
    second = await host.backend(found=found.put_nowait, look_interval=0.01)
    await first.launch(SPEC, NoOutput())
    await host.scratch.noted("agent")
    await first.close()
    async with asyncio.timeout(HANG_TIMEOUT):
        execution = (await found.get()).follow(NoOutput())
    outcome = await execution.wait()
    assert outcome.reason is FailureReason.GRACEFUL_SHUTDOWN
    meanwhile = await host.backend()
    assert meanwhile.instance not in (first.instance, second.instance)
    await execution.release(outcome)
    assert (await host.backend()).instance == first.instance


async def test_what_a_dead_one_left_is_its_successors_where_that_lives(host: Host) -> None:
    host.agent("note agent ran; hold never")
    first = await host.backend()
    second = await host.backend()
    await first.launch(SPEC, NoOutput())
    await host.scratch.noted("agent")
    await first.close()
    found: list[AdoptableExecution] = []
    again = await host.backend(found=found.append)
    assert (again.instance, len(found)) == (first.instance, 1)
    with pytest.raises(Exception, match="under another worker"):
        await second.launch(SPEC, NoOutput())


async def test_a_copied_record_has_no_owner_without_its_slot(host: Host) -> None:
    host.agent("note agent ran; hold never")
    first, others = await host.backend(), list[AdoptableExecution]()
    await first.launch(SPEC, NoOutput())
    await host.scratch.noted("agent")
    (record,) = host.records()
    copy = record.with_name("copy")
    shutil.copy(record, copy)
    copy.rename(record)  # free, and of a slot whose worker lives
    second = await host.backend(found=others.append)
    assert others == []
    with pytest.raises(Exception, match="under another worker"):
        await second.launch(SPEC, NoOutput())


async def test_without_an_identity_that_can_be_read_no_worker_starts(host: Host) -> None:
    await (await host.backend()).close()
    (identity,) = host.root.glob(".journal-*/identity")
    identity.write_text("half")
    with pytest.raises(PreflightError, match=r"identity.* is damaged"):
        await host.backend()


async def test_a_full_disk_stops_no_worker_that_has_been_there_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await host.backend()
    await first.close()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert (await host.backend()).instance == first.instance
        shutil.rmtree(host.root)
        with pytest.raises(PreflightError, match=r"cannot hold the records of tasks: No space"):
            await host.backend()
    (journal,) = host.root.glob(".journal-*")
    assert list(journal.iterdir()) == []


async def test_a_record_that_cannot_be_removed_is_logged_once_and_not_found_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        unlink(path, missing_ok)

    looks, take_free = [0], Journal.take_free

    def counted(journal: Journal[DirectState]) -> list[JournalRecord[DirectState]]:
        looks[0] += 1
        return take_free(journal)

    found: list[AdoptableExecution] = []
    backend = await host.backend(found=found.append, look_interval=0.01)
    await host.backend(found=found.append, look_interval=0.01)  # another worker of the ID
    monkeypatch.setattr(Path, "unlink", refused)
    assert (await run(backend, SPEC)).result is TaskResult.SUCCEEDED
    monkeypatch.setattr(Journal, "take_free", counted)
    await eventually(lambda: looks[0] >= 6)  # three of each
    assert found == []
    logged = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged == ["Cannot remove what task run/execution left: Read-only file system"]


async def test_k15_a_journal_that_cannot_be_read_is_logged_once(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    def unreadable(journal: Journal[DirectState]) -> list[JournalRecord[DirectState]]:
        nonlocal looks
        looks += 1
        raise OSError(errno.EIO, "Input/output error")

    await host.backend(look_interval=0.01)
    monkeypatch.setattr(Journal, "take_free", unreadable)
    await eventually(lambda: looks >= 5)
    logged = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged == [
        "Looking for what dead workers left failed, and is tried again: [Errno 5] Input/output error"
    ]
