from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from oz_agent_worker.controlplane.rules.ownership import ExecutionRef
from oz_agent_worker.controlplane.rules.run_states import RunOutcome, RunState
from oz_agent_worker.controlplane.store import logs, reports
from oz_agent_worker.controlplane.store.logs import AppendResult, Piece, split_utf8

from .support import PUBLIC, T0, add_run, give, stored

MIB = 1024 * 1024


class Output:
    """One run's output."""

    def __init__(self, connection: Connection, retention: int = MIB) -> None:
        self.connection = connection
        self.retention = retention
        self.run_id = add_run(connection)
        give(connection, self.run_id)
        self.execution_id = stored(connection, self.run_id).execution_id

    def append(self, start: int, text: str, execution_id: str | None = None) -> AppendResult:
        piece = Piece(start, text.encode())
        execution_id = execution_id or self.execution_id
        ref = ExecutionRef(self.run_id, execution_id)
        return logs.append(self.connection, ref, PUBLIC, piece, retention=self.retention, now=T0)

    def read(self, offset: int = 0) -> list[Piece]:
        pieces: list[Piece] = []
        while (page := logs.read_page(self.connection, self.run_id, offset)) and page.pieces:
            pieces += page.pieces
            offset = pieces[-1].end
        return pieces

    def text(self, offset: int = 0) -> str:
        return b"".join(piece.data for piece in self.read(offset)).decode()


@pytest.fixture
def output(connection: Connection) -> Output:
    return Output(connection)


def test_pieces_add_up(output: Output) -> None:
    assert output.append(0, "one\n") == AppendResult(stored=True, held=True)
    assert output.append(4, "two\n") == AppendResult(stored=True, held=True)
    assert output.text() == "one\ntwo\n"


def test_the_first_output_is_a_sign_of_life(output: Output) -> None:
    output.append(0, "x")
    run = stored(output.connection, output.run_id)
    assert (run.state, run.worker_id, run.started_at) == (RunState.INPROGRESS, "w", T0)


def test_a_piece_twice_is_stored_once(output: Output) -> None:
    output.append(0, "one\ntwo\n")
    assert not output.append(0, "one\ntwo\n").stored
    assert not output.append(4, "two\n").stored
    assert output.text() == "one\ntwo\n"


def test_of_a_piece_that_overlaps_the_new_part_is_stored(output: Output) -> None:
    output.append(0, "grün ")
    output.append(0, "grün und blau")
    assert output.text() == "grün und blau"


def test_a_gap_stays_visible(output: Output) -> None:
    output.append(0, "one")
    output.append(10, "two")
    assert output.read() == [Piece(0, b"one"), Piece(10, b"two")]


def test_output_of_another_execution_is_left_out(output: Output) -> None:
    assert output.append(0, "x", execution_id="other") == AppendResult(stored=False, refused=True)
    assert stored(output.connection, output.run_id).state is RunState.PENDING


def test_nothing_is_stored_for_nothing(output: Output) -> None:
    assert output.append(0, "") == AppendResult(stored=False)
    assert not logs.append(
        output.connection, ExecutionRef("none", "e"), PUBLIC, Piece(0, b"x"), retention=10, now=T0
    ).stored


def test_late_output_is_stored_and_wakes_no_dead_run(output: Output) -> None:
    outcome = RunOutcome(state=RunState.SUCCEEDED, message="")
    reports.finish(output.connection, ExecutionRef(output.run_id), PUBLIC, outcome, T0)
    assert output.append(0, "x") == AppendResult(stored=True)
    assert stored(output.connection, output.run_id).state is RunState.SUCCEEDED


def test_reading_goes_on_from_any_byte(output: Output) -> None:
    output.append(0, "abc")
    output.append(3, "def")
    assert output.read(1) == [Piece(1, b"bc"), Piece(3, b"def")]
    assert output.read(3) == [Piece(3, b"def")]
    assert output.read(6) == []
    assert output.read(10**12) == []


def test_any_byte_a_program_may_print_comes_back(output: Output) -> None:
    text = "\0\x1b[31m\ud7ff\U0001f680\r\n"
    output.append(0, text)
    assert output.text() == text


def test_the_last_part_is_kept(connection: Connection) -> None:
    output = Output(connection, retention=1000)
    for number in range(100):
        output.append(number * 100, f"{number:02d}" * 50)
    kept = output.read()
    assert sum(len(piece.data) for piece in kept) == 1000
    assert kept[-1].end == 10_000
    assert kept[0].start == 9_000


def test_of_a_piece_beyond_the_limit_its_own_end_is_kept(connection: Connection) -> None:
    output = Output(connection, retention=10)
    output.append(0, "0123456789abcdef")
    assert output.read() == [Piece(6, b"6789abcdef")]


def test_a_large_piece_is_read_in_pages(output: Output) -> None:
    text = "ü" * (MIB // 2)
    output.append(0, text)
    page = logs.read_page(output.connection, output.run_id, 0)
    assert page is not None
    assert max(len(piece.data) for piece in page.pieces) <= logs.ROW_BYTES
    assert output.text() == text


def test_an_unknown_run_has_no_page(connection: Connection) -> None:
    assert logs.read_page(connection, "none", 0) is None


@settings(deadline=None)
@given(st.text(), st.integers(4, 12), st.integers(0, 100))
def test_cutting_keeps_characters_whole_and_loses_nothing(text: str, size: int, start: int) -> None:
    pieces = split_utf8(Piece(start, text.encode()), size)
    assert "".join(piece.data.decode() for piece in pieces) == text
    assert all(len(piece.data) <= size for piece in pieces)
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert pieces[0].start == start


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(4, 12))
def test_cutting_ends_for_bytes_that_are_no_text(data: bytes, size: int) -> None:
    assert b"".join(piece.data for piece in split_utf8(Piece(0, data), size)) == data
