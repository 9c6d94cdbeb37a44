"""The output of runs: pieces at byte offsets, of which the last ones are kept."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer, decide_claim
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState

from .runs import lock_run, move, owned_by, set_holder
from .tables import run_logs, runs

__all__ = ["AppendResult", "LogPage", "Piece", "append", "read_page", "split_utf8"]

#: Most bytes of a stored row: bounds the size of a page and of what retention drops, whatever the
#: sender's pieces are.
ROW_BYTES: Final = 64 * 1024
_PAGE_ROWS: Final = 32


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The effect of a piece; ``held``: its sender has the run; ``refused``: its sender must stop."""

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
    connection: Connection, ref: ExecutionRef, peer: Peer, piece: Piece, *, retention: int, now: int
) -> AppendResult:
    """Store the part of ``piece`` that is missing, and drop all but the last ``retention`` bytes.

    Output is accepted only from the execution's owner, also after the run's end.
    """
    run = lock_run(connection, ref.run_id)
    if run is None:
        return AppendResult(stored=False)
    ended = run.state in TERMINAL
    own = run.owner is None or peer.may_report_for(run.owner)
    late = ended and run.execution_id == ref.execution_id and own
    if not late and not decide_claim(run, ref.execution_id, peer).accepted:
        return AppendResult(stored=False, refused=True)
    stored = _store(connection, ref, piece, retention)
    if ended or (not stored and run.state is not RunState.INPROGRESS):
        return AppendResult(stored=stored)
    if run.state is RunState.INPROGRESS:
        set_holder(connection, run, peer)
    else:
        move(connection, run, RunState.INPROGRESS, now, **owned_by(peer), message=None)
    return AppendResult(stored=stored, held=True)


def _store(connection: Connection, ref: ExecutionRef, piece: Piece, retention: int) -> bool:
    """Store the part of a piece that is missing; False if nothing is."""
    same = (run_logs.c.run_id == ref.run_id, run_logs.c.execution_id == ref.execution_id)
    row_end = run_logs.c.start + run_logs.c.size
    last = select(row_end).where(*same).order_by(run_logs.c.start.desc()).limit(1)
    known = connection.execute(last).scalar() or 0
    # Retention counts from the end, so the beginning of a piece larger than it is not stored.
    keep_from = max(known, piece.end - retention, piece.start)
    data = piece.data[keep_from - piece.start :]
    if not data:
        return False
    rows = [
        {
            "run_id": ref.run_id,
            "execution_id": ref.execution_id,
            "start": p.start,
            "size": len(p.data),
            "data": p.data,
        }
        for p in split_utf8(Piece(keep_from, data))
    ]
    connection.execute(insert(run_logs), rows)
    if piece.end > retention:
        connection.execute(delete(run_logs).where(*same, row_end <= piece.end - retention))
    return True


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
    columns = select(runs.c.state, runs.c.execution_id).where(runs.c.id == run_id)
    run = connection.execute(columns).one_or_none()
    if run is None:
        return None
    same = (run_logs.c.run_id == run_id, run_logs.c.execution_id == run.execution_id)
    # The row that holds the offset begins at or before it: the primary key finds it.
    first = select(func.max(run_logs.c.start)).where(*same, run_logs.c.start <= offset).scalar_subquery()
    after = (run_logs.c.start >= func.coalesce(first, 0), run_logs.c.start + run_logs.c.size > offset)
    page = select(run_logs.c.start, run_logs.c.data).where(*same, *after)
    rows = connection.execute(page.order_by(run_logs.c.start).limit(_PAGE_ROWS))
    pieces = [Piece(row.start, row.data) for row in rows]
    if pieces and pieces[0].start < offset:
        pieces[0] = Piece(offset, pieces[0].data[offset - pieces[0].start :])
    return LogPage(RunState(run.state), tuple(pieces))
