"""The folder in which evidence is kept. What is collected is tested on a real API server."""

import asyncio
import logging
import os
import stat
from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.worker.backends.kubernetes.api.errors import UnreachableError
from oz_agent_worker.worker.backends.kubernetes.inspection.evidence import (
    EvidenceKeeper,
    EvidenceSettings,
    write_private,
)

OUTCOME = failed(FailureReason.IMAGE_PULL, "no such image")


async def collected(job_name: str, outcome: Outcome) -> bytes:
    return f"bundle of {job_name}: {outcome.message}".encode()


async def test_a_bundle_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "evidence"
    await EvidenceKeeper(collected, folder).keep("oz-task-1-exec-2", OUTCOME)
    (path,) = folder.iterdir()
    assert path.name.startswith("oz-task-1-exec-2-20")
    assert path.name.endswith("Z.tar.gz")
    assert path.read_bytes() == b"bundle of oz-task-1-exec-2: no such image"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def old_bundles(folder: Path, count: int, size: int = 10) -> list[Path]:
    paths = [folder / f"oz-task-{n}.tar.gz" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(b"x" * size)
        os.utime(path, (1_000_000 + n, 1_000_000 + n))
    return paths


async def test_the_newest_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    old = old_bundles(tmp_path, 5)
    others = [tmp_path / "notes.txt", tmp_path / "backup.tar.gz"]
    for other in others:
        other.touch()
        os.utime(other, (0, 0))
    await EvidenceKeeper(collected, tmp_path, EvidenceSettings(keep=3)).keep("oz-task-new", OUTCOME)
    left = set(tmp_path.iterdir())
    assert left >= {*others, old[3], old[4]}
    assert len(left) == 5


async def test_their_size_is_bounded_but_the_newest_always_stays(tmp_path: Path) -> None:
    old = old_bundles(tmp_path, 3, size=1000)
    settings = EvidenceSettings(keep_bytes=1100)
    await EvidenceKeeper(collected, tmp_path, settings).keep("oz-task-new", OUTCOME)
    assert old[2] in set(tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2
    await EvidenceKeeper(collected, tmp_path, EvidenceSettings(keep_bytes=1)).keep("oz-task-newer", OUTCOME)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("oz-task-newer")


async def test_what_cannot_be_kept_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def unreachable(job_name: str, outcome: Outcome) -> bytes:
        raise UnreachableError("https://server", "gone")

    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with caplog.at_level(logging.WARNING):
        await EvidenceKeeper(unreachable, tmp_path).keep("oz-task-1", OUTCOME)
        await EvidenceKeeper(collected, in_the_way).keep("oz-task-2", OUTCOME)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "The evidence of Job oz-task-1 could not be kept",
        "The evidence of Job oz-task-2 could not be kept",
    ]


async def test_evidence_holds_nothing_up_for_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def hangs(job_name: str, outcome: Outcome) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    keeper = EvidenceKeeper(hangs, tmp_path, EvidenceSettings(patience=0.02, at_once=1))
    with caplog.at_level(logging.WARNING):
        await asyncio.gather(*(keeper.keep(f"oz-task-{n}", OUTCOME) for n in range(3)))
    assert sum("could not be collected in 0.02 s" in r.getMessage() for r in caplog.records) == 3


async def test_few_are_collected_at_a_time(tmp_path: Path) -> None:
    at_work, most = 0, 0

    async def counted(job_name: str, outcome: Outcome) -> bytes:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return b""

    keeper = EvidenceKeeper(counted, tmp_path, EvidenceSettings(at_once=2))
    await asyncio.gather(*(keeper.keep(f"oz-task-{n}", OUTCOME) for n in range(6)))
    assert most == 2
    assert len(list(tmp_path.iterdir())) == 6


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="taken"):
        write_private(target, b"content")
    assert list(tmp_path.iterdir()) == [target]


async def test_what_an_earlier_worker_kept_of_the_same_end_is_not_kept_again(tmp_path: Path) -> None:
    keeper, name = EvidenceKeeper(collected, tmp_path), "oz-task-1-exec-2"
    await keeper.keep(name, OUTCOME, ended_before="2026-01-01T12:00:00Z")
    (kept,) = tmp_path.iterdir()
    kept = kept.rename(tmp_path / f"{name}-20260101T120005Z.tar.gz")
    for known in ("2026-01-01T12:00:00Z", "2026-01-01T12:00:50Z", "2026-01-01T14:00:05+02:00"):
        await keeper.keep(name, OUTCOME, ended_before=known)
        assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("kept", "ended"),
    [
        ("oz-task-1-exec-2-20260101T120005Z", None),
        ("oz-task-1-exec-2-20260101T115000Z", "2026-01-01T12:00:00Z"),
        ("oz-task-1-exec-2-x-20260101T120005Z", "2026-01-01T12:00:00Z"),
        ("oz-task-1-exec-2-notes", "2026-01-01T12:00:00Z"),
    ],
    ids=["seen to end", "a namesake's", "another Job's", "another file"],
)
async def test_any_other_end_is_kept(tmp_path: Path, kept: str, ended: str | None) -> None:
    (tmp_path / f"{kept}.tar.gz").touch()
    await EvidenceKeeper(collected, tmp_path).keep("oz-task-1-exec-2", OUTCOME, ended_before=ended)
    assert len(list(tmp_path.iterdir())) == 2
