import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.protocol.log_stream import (
    MAX_CHUNK,
    MAX_HELD,
    MAX_TOTAL,
    LogBuffers,
    LogChunk,
    LogStream,
)
from oz_agent_worker.protocol.report import ExecutionKey

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")


def _drained(stream: LogStream, barrier: int = 1) -> list[LogChunk]:
    pieces = []
    while (piece := stream.take(barrier)) is not None:
        pieces.append(piece)
    return pieces


# --------------------------------------------------------------------------- one stream


def test_output_leaves_with_its_offset_in_bytes() -> None:
    stream = LogStream(A)
    stream.write("ä\n".encode())
    assert _drained(stream) == [LogChunk(A, 0, "ä\n")]
    stream.write(b"next")
    assert _drained(stream) == [LogChunk(A, 3, "next")]
    assert _drained(stream) == []


def test_a_character_is_never_split() -> None:
    stream = LogStream(A)
    first, second = "€".encode()[:2], "€".encode()[2:]
    stream.write(first)
    assert not stream.has_due
    stream.write(second)
    assert _drained(stream) == [LogChunk(A, 0, "€")]


def test_what_is_no_utf_8_is_replaced_and_counted_as_it_is_sent() -> None:
    stream = LogStream(A)
    stream.write(b"a\xffb")
    stream.write(b"c")
    assert _drained(stream) == [LogChunk(A, 0, "a\ufffdbc")]
    stream.write(b"d")
    assert _drained(stream) == [LogChunk(A, 6, "d")]


def test_the_end_closes_a_character_that_was_begun() -> None:
    stream = LogStream(A)
    stream.write(b"x\xe2\x82")
    stream.write(b"", final=True)
    assert _drained(stream) == [LogChunk(A, 0, "x\ufffd")]


def test_a_pong_frees_what_was_sent_before_its_ping() -> None:
    stream = LogStream(A)
    stream.write(b"one")
    _drained(stream, barrier=1)
    stream.write(b"two")
    _drained(stream, barrier=2)
    stream.write(b"three")
    stream.confirm_barrier(1)
    assert (stream.confirmed, stream.has_due) == (False, True)
    stream.reset()
    assert _drained(stream, barrier=3) == [LogChunk(A, 3, "twothree")]
    stream.confirm_barrier(3)
    assert stream.confirmed
    stream.reset()
    assert _drained(stream) == []


def test_a_pong_of_another_time_frees_nothing() -> None:
    stream = LogStream(A)
    stream.write(b"one")
    _drained(stream, barrier=5)
    stream.confirm_barrier(4)
    stream.reset()
    stream.confirm_barrier(5)
    assert _drained(stream) == [LogChunk(A, 0, "one")]


def test_long_output_leaves_in_pieces_that_end_at_characters() -> None:
    stream = LogStream(A)
    text = "x" + "€" * 50_000
    for start in range(0, len(text), 1000):
        stream.write(text[start : start + 1000].encode())
    pieces = _drained(stream)
    assert [len(piece.text.encode()) for piece in pieces] == [65536, 65535, 18930]
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.offset for piece in pieces] == [0, 65536, 131071]
    assert all(len(piece.text.encode()) <= MAX_CHUNK for piece in pieces)


def test_the_oldest_output_is_dropped_without_a_reader() -> None:
    stream = LogStream(A, max_held=10)
    stream.write(b"0123456789")
    stream.write("€tail".encode())
    assert _drained(stream) == [LogChunk(A, 7, "789€tail")]


@pytest.mark.parametrize("max_held", [3, 4, 5])
def test_dropping_never_leaves_half_a_character(max_held: int) -> None:
    stream = LogStream(A, max_held=max_held)
    stream.write("€€".encode())
    assert _drained(stream) == [LogChunk(A, 3, "€")]


def test_dropping_what_was_sent_and_not_confirmed_is_harmless() -> None:
    stream = LogStream(A, max_held=4)
    stream.write(b"abcd")
    _drained(stream, barrier=1)
    stream.write(b"efgh")
    stream.confirm_barrier(1)
    assert _drained(stream, barrier=2) == [LogChunk(A, 4, "efgh")]


@given(st.lists(st.binary(max_size=40), max_size=30), st.lists(st.booleans(), max_size=30))
def test_offsets_and_texts_make_up_the_output(chunks: list[bytes], takes: list[bool]) -> None:
    stream = LogStream(A)
    received = b""
    for number, chunk in enumerate(chunks):
        stream.write(chunk)
        if number < len(takes) and takes[number]:
            for piece in _drained(stream, barrier=number):
                assert piece.offset == len(received)
                received += piece.text.encode()
    stream.write(b"", final=True)
    for piece in _drained(stream):
        assert piece.offset == len(received)
        received += piece.text.encode()
    assert received.decode() == b"".join(chunks).decode("utf-8", "replace")


@given(st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=40), st.integers(8, 64))
def test_memory_is_bounded_and_what_is_left_is_the_end(chunks: list[bytes], max_held: int) -> None:
    stream = LogStream(A, max_held=max_held)
    for number, chunk in enumerate(chunks):
        stream.write(chunk)
        stream.take(number)
        assert len(stream._held) <= max_held
    stream.reset()
    text = b"".join(chunks).decode("utf-8", "replace").encode()
    pieces = _drained(stream)
    held = "".join(piece.text for piece in pieces).encode()
    if pieces:
        assert text[pieces[0].offset :].startswith(held)  # the decoder may still hold a character's begin


def test_a_task_that_prints_without_end_holds_a_mebibyte() -> None:
    stream = LogStream(A)
    for number in range(300):
        stream.write(b"x" * 64 * 1024)
        while stream.take(number // 10) is not None:
            pass
    assert len(stream._held) == MAX_HELD == 1024 * 1024
    assert len(stream._marks) == 30  # one a ping, however many pieces stand before it


# ----------------------------------------------------------------------------- the book


def _book() -> LogBuffers:
    book = LogBuffers()
    book.reset(wanted=True)
    return book


def test_nothing_is_kept_for_a_peer_that_wants_no_output() -> None:
    book = LogBuffers()
    book.reset(wanted=False)
    book.write(A, b"x")
    assert (len(book), book.has_due, book.due()) == (0, False, [])
    book.reset(wanted=True)
    assert not book.has_due


def test_output_waits_for_the_first_connection() -> None:
    """What a task printed whose end was found at the start is not lost."""
    book = LogBuffers()
    book.write(A, b"x")
    assert (book.wanted, book.has_due, book.due()) == (None, False, [])
    book.reset(wanted=True)
    assert book.take(A, 1) == LogChunk(A, 0, "x")


def test_executions_take_turns() -> None:
    book = _book()
    book.write(A, b"x" * (MAX_CHUNK + 1))
    book.write(B, b"b")
    assert book.due() == [A, B]
    assert book.take(A, 1) == LogChunk(A, 0, "x" * MAX_CHUNK)
    assert book.due() == [B, A]
    assert book.take(B, 1) == LogChunk(B, 0, "b")
    assert book.take(B, 1) is None
    assert book.due() == [A]
    assert book.take(A, 1) == LogChunk(A, MAX_CHUNK, "x")
    assert not book.has_due


def test_output_that_is_held_back_leaves_with_the_first_write_that_is_not() -> None:
    book = _book()
    book.write(A, b"early ", held_back=True)
    assert not book.has_due
    book.reset(wanted=True)
    assert not book.has_due
    book.write(A, b"")
    assert book.take(A, 1) == LogChunk(A, 0, "early ")


def test_silence_costs_nothing() -> None:
    book = _book()
    book.write(A, b"")
    book.write(B, b"", final=True)
    assert len(book) == 0


def test_what_is_forgotten_is_gone() -> None:
    book = _book()
    book.write(A, b"x")
    book.take(A, 1)
    book.write(A, b"y")
    book.forget(A)
    book.confirm_barrier(1)
    assert (len(book), book.has_due, book.take(A, 2)) == (0, False, None)


def test_a_new_connection_makes_unconfirmed_output_due() -> None:
    book = _book()
    book.write(A, b"a")
    book.write(B, b"b")
    book.take(A, 1)
    book.take(B, 2)
    book.confirm_barrier(1)
    book.reset(wanted=True)
    assert book.due() == [B]
    assert book.take(B, 3) == LogChunk(B, 0, "b")


@pytest.mark.parametrize("wanted", [False, True])
def test_output_waits_while_the_peer_wants_none(wanted: bool) -> None:
    book = _book()
    book.write(A, b"a")
    book.reset(wanted=False)
    book.write(A, b"lost")
    assert book.due() == []
    book.reset(wanted=wanted)
    assert book.due() == ([A] if wanted else [])


# ------------------------------------------------------------------------- the whole book


def _wanted_book(max_total: int) -> LogBuffers:
    book = LogBuffers(max_total)
    book.reset(wanted=True)
    return book


def _text_of(book: LogBuffers, key: ExecutionKey) -> tuple[int, str]:
    """Where what is held of an execution begins, and its text."""
    pieces = []
    while (piece := book.take(key, 1)) is not None:
        pieces.append(piece)
    return (pieces[0].offset if pieces else -1), "".join(piece.text for piece in pieces)


def test_all_tasks_together_hold_32_mebibytes() -> None:
    book = _book()
    keys = [ExecutionKey(f"run-{number}", "e") for number in range(40)]
    for key in keys:
        for _ in range(17):
            book.write(key, b"x" * 64 * 1024)
    assert book.held == MAX_TOTAL == 32 * 1024 * 1024
    assert sum(len(_text_of(book, key)[1]) for key in keys) == MAX_TOTAL


def test_who_holds_most_gives_first() -> None:
    book = _wanted_book(100)
    book.write(A, b"a" * 70)
    book.write(B, b"b" * 20)
    book.write(B, b"B" * 20)
    assert _text_of(book, A) == (10, "a" * 60)
    assert _text_of(book, B) == (0, "b" * 20 + "B" * 20)


def test_two_that_hold_the_same_give_the_same() -> None:
    book = _wanted_book(2)
    book.write(A, b"aA")
    book.write(B, b"bB")
    assert (_text_of(book, A), _text_of(book, B)) == ((1, "A"), (1, "B"))


def test_a_flood_takes_nothing_from_the_quiet() -> None:
    book = _wanted_book(1000)
    quiet = [ExecutionKey(f"quiet-{number}", "e") for number in range(10)]
    for key in quiet:
        book.write(key, b"q" * 30)
    for _ in range(100):
        book.write(A, b"a" * 90)
        book.write(B, b"b" * 90)
    assert book.held == 1000
    assert [_text_of(book, key) for key in quiet] == [(0, "q" * 30)] * 10
    shares = [len(_text_of(book, key)[1]) for key in (A, B)]
    assert max(shares) <= 2 * min(shares)


def test_room_that_is_freed_can_be_used() -> None:
    book = _wanted_book(100)
    book.write(A, b"a" * 100)
    book.forget(A)
    assert book.held == 0
    book.write(B, b"b" * 100)
    assert book.take(B, 1) == LogChunk(B, 0, "b" * 100)
    book.confirm_barrier(1)
    assert book.held == 0
    book.write(A, b"a" * 100)
    assert _text_of(book, A) == (0, "a" * 100)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.text(min_size=1, max_size=20), st.sampled_from("wwwwtcfr")),
        max_size=60,
    ),
    st.integers(1, 120),
)
def test_the_whole_is_bounded_and_a_cut_shows_as_a_jump(
    steps: list[tuple[int, str, str]], max_total: int
) -> None:
    book = _wanted_book(max_total)
    written = {ExecutionKey(f"run-{number}", "e"): b"" for number in range(5)}
    for number, (run, text, action) in enumerate(steps):
        key = ExecutionKey(f"run-{run}", "e")
        match action:
            case "w":
                book.write(key, text.encode())
                written[key] += text.encode()
            case "t":
                book.take(key, number)
            case "c":
                book.confirm_barrier(number - run)
            case "f":
                book.forget(key)
                written[key] = b""  # its offsets begin anew
            case _:
                book.reset(wanted=True)
        assert book.held == sum(stream.held for stream in book._streams.values()) <= max_total
    book.reset(wanted=True)
    for key, output in written.items():
        offset, text = _text_of(book, key)
        assert not text or output[offset:] == text.encode()
