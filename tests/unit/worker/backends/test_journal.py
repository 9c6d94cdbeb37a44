import errno
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.journal import (
    HeldError,
    Journal,
    JournalError,
    JournalRecord,
    NotPrivateError,
    UnreadableError,
    lock_file,
)

KEY = ExecutionKey("run", "execution")
OUTCOMES = [
    succeeded(),
    cancelled("why"),
    failed(FailureReason.CONTAINER_EXIT, "naïve ☃\n", exit_code=137),
]


class State(msgspec.Struct, frozen=True):
    """A backend's part of a record."""

    text: str = "first"


class Journals:
    """Journals over one folder: each is another worker, and all end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: list[JournalRecord[State]] = []

    def open(self) -> Journal[State]:
        journal = Journal(self.folder, State)
        journal.prepare()
        return journal

    def create(self, key: ExecutionKey = KEY) -> JournalRecord[State]:
        return self.keep(self.open().create(key, State()))

    def keep(self, entry: JournalRecord[State]) -> JournalRecord[State]:
        self._entries.append(entry)
        return entry

    def take_free(self) -> list[JournalRecord[State]]:
        return [self.keep(entry) for entry in self.open().take_free()]

    def close(self) -> None:
        for entry in self._entries:
            entry.let_go()


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Journals]:
    journals = Journals(tmp_path / "journal")
    yield journals
    journals.close()


def names(journals: Journals) -> list[str]:
    return sorted(path.name for path in journals.folder.iterdir())


def test_the_folder_is_this_users_alone(journals: Journals) -> None:
    journals.folder.mkdir(mode=0o755)
    journals.open()
    assert journals.folder.stat().st_mode & 0o777 == 0o700
    assert names(journals) == []


@pytest.mark.parametrize("outcome", [None, *OUTCOMES])
def test_what_was_written_is_found(journals: Journals, outcome: Outcome | None) -> None:
    entry = journals.create()
    entry.save(State("second"))
    if outcome is not None:
        entry.conclude(outcome)
    entry.let_go()
    (found,) = journals.take_free()
    assert (found.key, found.state, found.outcome) == (KEY, State("second"), outcome)


def test_a_record_is_one_file_of_this_users_with_no_trace_of_its_making(journals: Journals) -> None:
    entry = journals.create()
    entry.save(State("second"))
    entry.conclude(succeeded())
    (path,) = journals.folder.iterdir()
    assert path.name.startswith("run-")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    assert json.loads(path.read_bytes())["version"] == 1


def test_records_of_odd_ids_keep_apart(journals: Journals) -> None:
    keys = [ExecutionKey(run, e) for run in ("../a/b", "a b", "a_b", "x" * 500, "☃") for e in ("1", "2")]
    for key in keys:
        journals.create(key).let_go()
    assert len(names(journals)) == len(keys)
    assert {entry.key for entry in journals.take_free()} == set(keys)


def test_a_tasks_own_text_is_not_kept(journals: Journals) -> None:
    """They may hold a secret."""
    entry = journals.create()
    entry.conclude(failed(FailureReason.UNKNOWN, "ended", task_text=TaskText("token-in-an-error")))
    entry.let_go()
    (found,) = journals.take_free()
    assert found.outcome == failed(FailureReason.UNKNOWN, "ended")


def test_a_message_that_is_no_text_is_kept_as_it_is_reported(journals: Journals) -> None:
    entry = journals.create()
    entry.conclude(failed(FailureReason.UNKNOWN, "no \udcff text"))
    entry.let_go()
    (found,) = journals.take_free()
    assert found.outcome == failed(FailureReason.UNKNOWN, "no ? text")


# Holding


def test_records_of_a_live_worker_are_not_adopted_by_others(journals: Journals) -> None:
    entry = journals.create()
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: entry.save(State("second")),
        lambda: entry.conclude(succeeded()),
    ]
    for change in changes:
        change()
        other = journals.open()
        assert other.take_free() == []
        with pytest.raises(HeldError, match="is locked"):
            other.take(KEY)
        with pytest.raises(HeldError, match="exists"):
            other.create(KEY, State())


def test_what_was_let_go_goes_to_one(journals: Journals) -> None:
    journals.create().let_go()
    first = journals.keep(entry) if (entry := journals.open().take(KEY)) else None
    assert first is not None
    assert journals.take_free() == []
    first.save(State("taken over"))
    assert journals.take_free() == []


def test_an_existing_record_is_not_overwritten(journals: Journals) -> None:
    journals.create().let_go()
    with pytest.raises(HeldError):
        journals.create()
    assert [entry.state for entry in journals.take_free()] == [State("first")]


def test_what_was_removed_is_gone_and_can_come_again(journals: Journals) -> None:
    entry = journals.create()
    entry.remove()
    entry.remove()
    assert names(journals) == []
    assert journals.open().take(KEY) is None
    again = journals.create()
    entry.remove()  # no longer its own
    assert journals.open().take_free() == []
    again.let_go()
    assert len(journals.take_free()) == 1


def test_a_record_that_is_replaced_while_it_is_taken_is_looked_at_again(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, open_file = journals.create(), os.open
    replaced: list[Path] = []

    def replace_once(path: Path, *rest: int) -> int:
        descriptor = open_file(path, *rest)
        if not replaced and str(path).endswith(".json"):
            replaced.append(path)
            entry.save(State("second"))
        return descriptor

    other = journals.open()
    monkeypatch.setattr(os, "open", replace_once)
    with pytest.raises(HeldError):
        other.take(KEY)
    assert len(replaced) == 1


# Durability


def test_an_outcome_is_on_the_disk_with_its_name(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, synced, sync = journals.create(), [], os.fsync

    def record(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, names(journals)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    entry.save(State("second"))
    assert synced == []
    entry.conclude(succeeded())
    (path,) = journals.folder.iterdir()
    (content, before), (folder, after) = synced
    assert content == path.stat().st_ino
    assert len(before) == 2  # not yet in its place
    assert (folder, after) == (journals.folder.stat().st_ino, [path.name])


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_the_record_as_it_was(
    journals: Journals, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = journals.create()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            entry.conclude(succeeded())
    assert len(names(journals)) == 1
    assert journals.open().take_free() == []
    entry.let_go()
    assert [found.outcome for found in journals.take_free()] == [None]


@pytest.mark.parametrize("call", ["write", "link"])
def test_a_full_disk_creates_nothing(journals: Journals, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = journals.open()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            journal.create(KEY, State())
    assert names(journals) == []


def test_a_disk_that_takes_a_part_at_a_time_gets_it_all(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    journals.create().let_go()
    assert [entry.state for entry in journals.take_free()] == [State("first")]


# What dead writers, disks and people leave


def test_what_a_dead_writer_left_goes_and_a_live_ones_stays(journals: Journals) -> None:
    entry = journals.create()
    (journals.folder / ".new-dead").write_text("{")
    (journals.folder / ".new-twin").hardlink_to(journals.folder / names(journals)[-1])
    journals.open()
    assert len(names(journals)) == 2  # the twin of a record that is held
    entry.let_go()
    assert len(journals.take_free()) == 1
    assert len(names(journals)) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"\0" * 200, "malformed"),
        (b'{"version":1,"task_id":"run"', "truncated"),
        (b'{"version":2,"task_id":"run","execution_id":"execution","state":{}}', "version"),
        (b'{"version":1,"task_id":"run","execution_id":"execution","state":{"text":1}}', "text"),
        (b'{"version":1,"task_id":"run","execution_id":"execution","state":{},"more":1}', "more"),
        (
            b'{"version":1,"task_id":"other","execution_id":"execution","state":{}}',
            "which has another file name",
        ),
        (
            b'{"version":1,"task_id":"run","execution_id":"execution","state":' + b"[" * 200_000,
            "recursion",
        ),
        (b" " * (16 * 1024 * 1024 + 1), "it is larger than 16777216 bytes"),
    ],
    ids=["empty", "zeros", "half", "version", "state", "more", "other name", "nested", "large"],
)
def test_an_unreadable_record_is_logged_once_and_the_rest_goes_on(
    journals: Journals, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    journals.create().let_go()
    (path,) = journals.folder.iterdir()
    path.write_bytes(data)
    journals.create(ExecutionKey("another", "another")).let_go()
    journal = journals.open()
    for _ in range(2):
        for entry in journal.take_free():
            assert entry.key.task_id == "another"
            entry.let_go()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
    assert why in record.getMessage().lower() or why in record.getMessage()
    assert "remove the file" in record.getMessage()
    with pytest.raises(UnreadableError):
        journal.take(KEY)
    with pytest.raises(HeldError):
        journal.create(KEY, State())
    assert path.read_bytes() == data


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_cannot_be_read(journals: Journals, make: Any) -> None:
    journals.create().remove()
    entry = journals.create()
    (path,) = journals.folder.iterdir()
    entry.remove()
    make(path)
    assert journals.take_free() == []
    with pytest.raises(UnreadableError):
        journals.open().take(KEY)


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(NotPrivateError):
            Journal(tmp_path / name, State).prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(NotPrivateError, match="another user"):
        Journal(tmp_path, State).prepare()


def test_a_file_system_without_links_is_refused(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(PermissionError):
        journals.open()
    assert names(journals) == []


def test_no_descriptor_stays_open(journals: Journals) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    entry = journals.create()
    entry.save(State("second"))
    entry.conclude(succeeded())
    journals.open().take_free()
    with pytest.raises(HeldError):
        journals.create()
    entry.remove()
    (journals.folder / "x.json").write_bytes(b"{")
    journals.open().take_free()
    assert open_files() == before


# Its name


def test_a_journal_has_one_name_for_good_whoever_asks(journals: Journals) -> None:
    first, second = journals.open(), journals.open()
    name = first.identity()
    assert re.fullmatch("[0-9a-f]{32}", name)
    assert {first.identity(), second.identity(), journals.open().identity()} == {name}
    assert names(journals) == ["identity"]
    assert (journals.folder / "identity").stat().st_mode & 0o777 == 0o600


def test_no_two_journals_have_one_name(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / str(n), State) for n in range(20)]
    for journal in journals:
        journal.prepare()
    assert len({journal.identity() for journal in journals}) == 20


def test_a_name_is_on_the_disk_before_anybody_hears_it(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real: dict[str, Callable[..., Any]] = {"fsync": os.fsync, "link": os.link}

    def noted(call: str) -> Callable[..., Any]:
        def act(*arguments: Any, **keywords: Any) -> Any:
            steps.append(call)
            return real[call](*arguments, **keywords)

        return act

    journal = journals.open()
    for call in real:
        monkeypatch.setattr(os, call, noted(call))
    journal.identity()
    assert steps == ["fsync", "link", "fsync"], "the name, then its place, then the folder"
    journal.identity()
    assert len(steps) == 3


def test_of_two_that_name_a_journal_at_once_one_does(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = journals.open(), journals.open()
    link, identities = os.link, list[str]()

    def slow(*arguments: Any, **keywords: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        identities.append(second.identity())
        link(*arguments, **keywords)

    monkeypatch.setattr(os, "link", slow)
    assert [first.identity()] == identities
    assert names(journals) == ["identity"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_what_somebody_left_as_a_record_in_the_making_is_no_end(
    journals: Journals, caplog: pytest.LogCaptureFixture, make: Any
) -> None:
    journals.open()
    make(journals.folder / ".new-x")
    journals.create().let_go()
    (entry,) = journals.take_free()
    assert entry.key == KEY


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_what_is_in_place_of_the_name_is_an_error_and_never_waited_for(journals: Journals, make: Any) -> None:
    journal = journals.open()
    make(journals.folder / "identity")
    with pytest.raises((JournalError, OSError)):
        journal.identity()


@pytest.mark.parametrize("text", ["", "half", "A" * 32, "0" * 33, "\udcff", "0" * 5000])
def test_a_damaged_name_is_none(journals: Journals, text: str) -> None:
    journal = journals.open()
    (journals.folder / "identity").write_bytes(os.fsencode(text))
    with pytest.raises(JournalError, match="identity is damaged"):
        journal.identity()


# Locks


def test_a_lock_is_one_holders(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(FileNotFoundError):
        lock_file(path)
    lock = lock_file(path, create=True)
    assert lock is not None
    assert lock_file(path, create=True) is None
    os.close(lock)
    again = lock_file(path)
    assert again is not None
    os.close(again)


def test_records_on_a_file_system_that_became_read_only_can_still_be_read(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, left = journals.create(), journals.create(ExecutionKey("left", "e"))
    left.conclude(succeeded())
    left.let_go()
    journal, real = journals.open(), os.open

    def read_only(path: Any, flags: int, *more: Any, **keywords: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *more, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    assert [journals.keep(entry).key for entry in journal.take_free()] == [left.key]
    with pytest.raises(HeldError):
        journal.take(live.key)


def test_a_record_that_cannot_be_removed_is_held_on(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, other = journals.create(), journals.open()

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(OSError, match="Read-only"):
            entry.remove()
        assert other.take_free() == []
    entry.remove()
    assert names(journals) == []
