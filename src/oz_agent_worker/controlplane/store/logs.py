"""The output of runs: pieces at byte offsets, the last part of it kept."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from oz_agent_worker.controlplane.rules.ownership import Peer, decide_claim
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState

from .runs import lock_run, move, owned_by, take_hold
from .tables import run_logs, runs

__all__ = ["AppendResult", "LogPage", "Piece", "append", "read_page", "split_utf8"]

#: Pieces are stored in rows of at most this many bytes, so that a page of them and the
#: part that retention drops have a size that does not depend on the sender.
ROW_BYTES: Final = 64 * 1024
_PAGE_ROWS: Final = 32


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of a piece; ``held``: whoever sent it has the run in its hands.

    ``refused``: it has not, and must be told to stop.
    """

    stored: bool
    held: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Output that begins ``start`` bytes into the execution's output."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some pieces, in order, and the run's state at the same moment."""

    state: RunState
    pieces: tuple[Piece, ...]


def append(
    connection: Connection,
    run_id: str,
    execution_id: str,
    peer: Peer,
    piece: Piece,
    *,
    retention: int,
    now: int,
) -> AppendResult:
    """Store what of ``piece`` is not there yet, and drop what is older than ``retention`` bytes.

    Only the execution's owner is heard, after the run's end as before.
    """
    run = lock_run(connection, run_id)
    if run is None:
        return AppendResult(stored=False)
    ended = run.state in TERMINAL
    late = ended and run.execution_id == execution_id and (not run.owner or peer.may_report_for(run.owner))
    if not late and not decide_claim(run, execution_id, peer).accepted:
        return AppendResult(stored=False, refused=True)
    stored = _store(connection, run_id, execution_id, piece, retention)
    if ended or (not stored and run.state is not RunState.INPROGRESS):
        return AppendResult(stored=stored)
    if run.state is RunState.INPROGRESS:
        take_hold(connection, run, peer)
    else:
        move(connection, run, RunState.INPROGRESS, now, **owned_by(peer), message=None)
    return AppendResult(stored=stored, held=True)


def _store(connection: Connection, run_id: str, execution_id: str, piece: Piece, retention: int) -> bool:
    """Store a piece's part that is not there; False where all of it is."""
    known = _end(connection, run_id, execution_id)
    # Retention counts from the end, so a piece larger than it loses its own head.
    keep_from = max(known, piece.end - retention, piece.start)
    data = piece.data[keep_from - piece.start :]
    if not data:
        return False
    rows = [
        {
            "run_id": run_id,
            "execution_id": execution_id,
            "start": p.start,
            "size": len(p.data),
            "data": p.data,
        }
        for p in split_utf8(Piece(keep_from, data))
    ]
    connection.execute(insert(run_logs), rows)
    _drop_before(connection, run_id, execution_id, piece.end - retention)
    return True


def _end(connection: Connection, run_id: str, execution_id: str) -> int:
    statement = (
        select(run_logs.c.start + run_logs.c.size)
        .where(run_logs.c.run_id == run_id, run_logs.c.execution_id == execution_id)
        .order_by(run_logs.c.start.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar() or 0


def _drop_before(connection: Connection, run_id: str, execution_id: str, offset: int) -> None:
    if offset <= 0:
        return
    connection.execute(
        delete(run_logs).where(
            run_logs.c.run_id == run_id,
            run_logs.c.execution_id == execution_id,
            run_logs.c.start + run_logs.c.size <= offset,
        )
    )


def split_utf8(piece: Piece, size: int = ROW_BYTES) -> list[Piece]:
    """Cut a piece into ones of at most ``size`` bytes (4 or more), never inside a character."""
    cuts = [0]
    while len(piece.data) - cuts[-1] > size:
        cut = cuts[-1] + size
        while cut > cuts[-1] + size - 3 and piece.data[cut] & 0xC0 == 0x80:
            cut -= 1
        cuts.append(cut)
    cuts.append(len(piece.data))
    return [Piece(piece.start + a, piece.data[a:b]) for a, b in pairwise(cuts)]


def read_page(connection: Connection, run_id: str, offset: int) -> LogPage | None:
    """The next output of a run's execution from ``offset`` on; None for an unknown run."""
    run = connection.execute(
        select(runs.c.state, runs.c.execution_id).where(runs.c.id == run_id)
    ).one_or_none()
    if run is None:
        return None
    same = (run_logs.c.run_id == run_id, run_logs.c.execution_id == run.execution_id)
    # The row that holds the offset begins at or before it: the primary key finds it.
    first = select(func.max(run_logs.c.start)).where(*same, run_logs.c.start <= offset).scalar_subquery()
    statement = (
        select(run_logs.c.start, run_logs.c.data)
        .where(
            *same, run_logs.c.start >= func.coalesce(first, 0), run_logs.c.start + run_logs.c.size > offset
        )
        .order_by(run_logs.c.start)
        .limit(_PAGE_ROWS)
    )
    pieces = [Piece(row.start, row.data) for row in connection.execute(statement)]
    if pieces and pieces[0].start < offset:
        pieces[0] = Piece(offset, pieces[0].data[offset - pieces[0].start :])
    return LogPage(RunState(run.state), tuple(pieces))
