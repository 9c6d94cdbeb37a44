import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import BEGINNING, LogPosition, LogReader

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stamp(moment: int) -> str:
    """The time of a line, 400 ms apart: several share a second."""
    return (START + timedelta(milliseconds=400 * moment)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def served(lines: list[tuple[int, bytes]], since: str | None = None) -> bytes:
    """What the API server answers: the lines from that second on, each behind its time."""
    first = datetime.min.replace(tzinfo=UTC) if since is None else datetime.fromisoformat(since)
    kept = [(m, text) for m, text in lines if datetime.fromisoformat(stamp(m)) >= first]
    return b"".join(stamp(m).encode() + b" " + text + b"\n" for m, text in kept)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


contents = st.binary(max_size=20).map(lambda text: text.replace(b"\n", b" "))
logs = st.lists(st.tuples(st.integers(0, 6), contents), max_size=12).map(
    lambda lines: sorted(lines, key=lambda line: line[0])
)


@given(logs, st.lists(st.integers(0, 10_000), max_size=6))
def test_the_output_is_what_was_written_however_it_arrives(
    lines: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    reader = LogReader()
    output = b"".join(reader.feed(piece) for piece in in_pieces(served(lines), cuts))
    assert output == b"".join(text + b"\n" for _, text in lines)


@given(logs, st.lists(st.integers(0, 10_000), max_size=4), st.lists(st.integers(0, 10_000), max_size=4))
def test_after_each_interruption_it_goes_on_where_it_left_off(
    lines: list[tuple[int, bytes]], interruptions: list[int], cuts: list[int]
) -> None:
    position, output = BEGINNING, b""
    for stop in [*interruptions, None]:
        reader = LogReader(position)
        data = served(lines, position.since)
        for piece in in_pieces(data if stop is None else data[: stop % (len(data) + 1)], cuts):
            output += reader.feed(piece)
        position = reader.position
    assert output == b"".join(text + b"\n" for _, text in lines)


def test_lines_of_one_moment_differ_by_their_number() -> None:
    lines = [(0, b"same"), (0, b"same"), (0, b"same")]
    first = LogReader()
    data = served(lines)
    first.feed(data[: len(data) // 3])
    assert first.position == LogPosition(START, lines=1)
    assert LogReader(first.position).feed(data) == b"same\nsame\n"


def test_a_log_that_was_rotated_meanwhile_is_taken_up_at_its_new_beginning() -> None:
    first = LogReader()
    first.feed(served([(0, b"a"), (1, b"b")]))
    assert LogReader(first.position).feed(served([(3, b"d"), (4, b"e")])) == b"d\ne\n"


def test_a_line_that_comes_late_is_not_taken_for_a_known_one() -> None:
    """stdout and stderr are written by two: their times need not be in order."""
    reader = LogReader()
    assert reader.feed(served([(2, b"out"), (1, b"err"), (2, b"more")])) == b"out\nerr\nmore\n"
    assert reader.position.lines == 2


@pytest.mark.parametrize(
    "text",
    [
        b"unable to retrieve container logs for containerd://1\n",
        b"\n",
        b"x" * 200 + b"\n",
        b"2026-13-01T00:00:00Z no time\n",
        b"2026-01-01_00:00:00Z no RFC 3339\n",
        b"20260101T000000Z no RFC 3339\n",
        b"2026-01-01T00:00:00.000000000 no offset\n",
    ],
)
def test_what_has_no_timestamp_passes_and_moves_nothing(text: bytes) -> None:
    reader = LogReader()
    assert reader.feed(text) == text
    assert reader.position == BEGINNING


def test_a_very_long_line_is_not_held_back() -> None:
    reader = LogReader()
    reader.feed(f"{stamp(0)} ".encode())
    assert reader.feed(b"x" * 10_000) == b"x" * 10_000
    assert reader.position == LogPosition(START, length=10_000)


@pytest.mark.parametrize(
    ("time", "since"),
    [
        (None, None),
        (datetime.fromisoformat("2026-01-01T12:00:00.999999Z"), "2026-01-01T12:00:00Z"),
        (datetime.fromisoformat("2026-01-01T12:00:00+02:00"), "2026-01-01T10:00:00Z"),
    ],
)
def test_a_log_is_asked_for_from_the_second_of_its_last_line(
    time: datetime | None, since: str | None
) -> None:
    assert LogPosition(time).since == since
