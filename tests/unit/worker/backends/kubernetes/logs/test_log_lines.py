"""Logs that are read in several requests, as the kubelet's reader answers them (tests/cluster/kubelet)."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import BEGINNING, LogPosition, LogReader
from tests.cluster.kubelet.cri_log import LogOptions, Reading, file_lines, read_log_file, record

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
STAMPED = LogOptions(timestamps=True)
ERROR = "failed to create fsnotify watcher: too many open files"
STATUS_ERROR = 'rpc error: code = NotFound desc = an error occurred when try to find container "1": not found'


def at(moment: int) -> datetime:
    """The time of a record, 400 ms apart: several share a second."""
    return START + timedelta(milliseconds=400 * moment)


def file(*records: tuple[int, bytes, str]) -> bytes:
    """A log file; each record has its moment, its text and its tag."""
    return b"".join(record(at(moment), text, tag=tag) for moment, text, tag in records)


def lines(*whole: tuple[int, bytes]) -> bytes:
    """A log file of whole lines."""
    return file(*((moment, text, "F") for moment, text in whole))


def served(log: bytes, position: LogPosition = BEGINNING) -> bytes:
    """What the kubelet answers to the worker's request for what follows a position."""
    since = None if position.since is None else datetime.fromisoformat(position.since)
    return read_log_file(log, STAMPED._replace(since=since))


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def fed(reader: LogReader, data: bytes) -> bytes:
    """The output of an answer that ends regularly, without an error of the kubelet."""
    output = reader.feed(data)
    assert reader.end() == ""
    return output


texts = st.binary(max_size=20).map(lambda text: text.replace(b"\n", b" "))
records = st.tuples(
    st.integers(0, 8), texts, st.sampled_from(["F", "F", "P"]), st.sampled_from(["out", "err"])
)
logs = st.lists(records, max_size=12).map(
    lambda found: b"".join(
        # No runtime writes a partial record without text.
        record(at(moment), text, tag=tag if text else "F", stream=f"std{stream}")
        for moment, text, tag, stream in sorted(found, key=lambda found: found[0])
    )
)
cuts = st.lists(st.integers(0, 10_000), max_size=6)


@given(logs, cuts, st.booleans())
def test_the_output_is_what_was_written_however_it_arrives(
    log: bytes, places: list[int], followed: bool
) -> None:
    reader = LogReader(followed=followed)
    output = b"".join(reader.feed(piece) for piece in in_pieces(served(log), places))
    assert output == read_log_file(log, LogOptions())


@given(logs, cuts, cuts)
def test_after_each_interruption_it_goes_on_where_it_left_off(
    log: bytes, interruptions: list[int], places: list[int]
) -> None:
    """K2: also where a line of several records lies over a second's border."""
    position, output = BEGINNING, b""
    for stop in [*interruptions, None, None]:
        reader = LogReader(position, followed=True)
        data = served(log, position)
        for piece in in_pieces(data if stop is None else data[: stop % (len(data) + 1)], places):
            output += reader.feed(piece)
        assert stop is not None or reader.end() == ""
        assert not reader.rotated
        position = reader.position
    assert output == read_log_file(log, LogOptions())


LONG = b"x" * 16384


@pytest.mark.parametrize(
    "log",
    [
        file((0, LONG, "P"), (2, LONG, "P"), (3, b"end", "F"), (4, b"next", "F")),
        file((2, LONG, "P"), (3, LONG, "P"), (7, b"", "F"), (7, b"", "F")),
        file(
            (2, b"dots", "P"), (3, b".", "P"), (5, b".", "P"), (6, b"", "F"), (6, b"a", "P"), (9, b"b", "P")
        ),
        file(
            (2, LONG, "P"), (3, LONG, "P"), (3, b" 2026-01-01T12:00:01Z", "P"), (4, b"", "F"), (4, b"n", "F")
        ),
    ],
    ids=["over a second's border", "CRI-O's end of a line", "one that grows by dots", "like a timestamp"],
)
def test_a_line_of_several_records_is_there_once(log: bytes) -> None:
    """K2: read again after each record that came, each byte once."""
    whole = file_lines(log)
    for read in range(1, len(whole) + 1):
        first = LogReader(followed=True)
        output = first.feed(served(b"".join(whole[:read])))
        again = LogReader(first.position, followed=True)
        output += fed(again, served(log, first.position))
        output += fed(LogReader(again.position), served(log, again.position))
        assert output == read_log_file(log, LogOptions())


def test_a_follower_whose_log_is_rotated_in_the_middle_of_a_line_goes_on_with_the_line() -> None:
    """K2: the kubelet's reader goes on in the new file without a timestamp."""
    reading, reader = Reading(STAMPED), LogReader(followed=True)
    output = reader.feed(reading.take(file_lines(file((0, b"one ", "P")))))
    output += reader.feed(reading.take(file_lines(file((1, b"line", "F"), (3, b"next", "F")))))
    assert output == b"one line\nnext\n"


def test_a_line_that_was_rotated_away_goes_on_in_the_next_file() -> None:
    """K2: asked again, the kubelet writes a timestamp before what is the first record of its file."""
    first = LogReader(followed=True)
    first.feed(served(file((0, b"one ", "P"))))
    again = LogReader(first.position)
    assert fed(again, served(file((1, b"line", "F"), (3, b"next", "F")), first.position)) == b"line\nnext\n"
    assert again.rotated


def test_lines_of_one_moment_differ_by_their_number() -> None:
    log = lines((0, b"same"), (0, b"same"), (0, b"same"))
    first = LogReader()
    data = served(log)
    first.feed(data[: len(data) // 3])
    assert first.position == LogPosition(START, lines=1)
    assert fed(LogReader(first.position), data) == b"same\nsame\n"


def test_a_log_that_was_rotated_meanwhile_is_taken_up_at_its_new_beginning() -> None:
    first = LogReader()
    first.feed(served(lines((0, b"a"), (1, b"b"))))
    again = LogReader(first.position)
    assert fed(again, served(lines((3, b"d"), (4, b"e")), first.position)) == b"d\ne\n"
    assert again.rotated


@pytest.mark.parametrize("read", [1, 2, 3])
def test_a_line_that_comes_late_is_not_taken_for_a_known_one(read: int) -> None:
    """stdout and stderr are written by two: their times need not be in order."""
    log = lines((2, b"out"), (1, b"err"), (2, b"more"))
    first = LogReader()
    output = first.feed(served(b"".join(file_lines(log)[:read])))
    assert output + fed(LogReader(first.position), served(log, first.position)) == b"out\nerr\nmore\n"


def test_a_server_that_sends_older_lines_than_asked_for_sends_known_ones() -> None:
    log = lines((0, b"a"), (1, b"b"), (3, b"c"), (4, b"d"))
    assert fed(LogReader(LogPosition(at(3), lines=1)), served(log)) == b"d\n"


@pytest.mark.parametrize(
    "text",
    [
        b"a server that writes no timestamps\n",
        b"\n",
        b"x" * 3000 + b"\n",
        b"2026-13-01T00:00:00Z no time\n",
        b"2026-01-01_00:00:00Z no RFC 3339\n",
        b"20260101T000000Z no RFC 3339\n",
        b"2026-01-01T00:00:00.000000000 no offset\n",
    ],
)
def test_lines_without_a_timestamp_pass_and_move_nothing(text: bytes) -> None:
    reader = LogReader()
    assert fed(reader, text + text) == text + text
    assert reader.position == BEGINNING


@pytest.mark.parametrize(
    "error",
    [
        ERROR,
        STATUS_ERROR,
        "context cancelled",
        "unable to retrieve container logs for containerd://4ca2",
        "words of a later version",
    ],
)
@pytest.mark.parametrize("pieces", [[], [3], [30, 40]])
def test_the_kubelets_own_error_is_no_output(error: str, pieces: list[int]) -> None:
    """K3: it ends the answer, and has neither a timestamp nor a line feed."""
    log = lines((0, b"a"), (1, b"b"))
    for position in (BEGINNING, LogPosition(at(0), lines=1)):
        reader = LogReader(position, followed=True)
        answer = served(log, position) + error.encode()
        output = b"".join(reader.feed(piece) for piece in in_pieces(answer, pieces))
        assert output == (b"a\nb\n" if position == BEGINNING else b"b\n")
        assert reader.end() == error
        assert reader.position == LogPosition(at(1), lines=2)


@pytest.mark.parametrize("position", [BEGINNING, LogPosition(at(3), lines=4)])
def test_an_error_in_place_of_the_log_is_no_output(position: LogPosition) -> None:
    """K3: also while the log is read on."""
    reader = LogReader(position)
    assert reader.feed(ERROR.encode()) == b""
    assert reader.end() == ERROR
    assert reader.position == position


def test_an_error_of_any_words_is_known_by_its_missing_timestamp() -> None:
    """K3: nothing is new in the log, and the words are of a later version."""
    reader = LogReader(LogPosition(at(1), lines=2), followed=True)
    assert reader.feed(served(lines((0, b"a"), (1, b"b"))) + b"the watch was lost") == b""
    assert reader.end() == "the watch was lost"


@pytest.mark.parametrize("text", [ERROR, f"the node said: {ERROR}", f"{ERROR} {ERROR}"])
def test_a_task_that_prints_the_kubelets_words_keeps_them(text: str) -> None:
    """K3: its line has a timestamp."""
    log = lines((0, text.encode()), (1, b"b"))
    assert fed(LogReader(followed=True), served(log)) == f"{text}\nb\n".encode()


def test_an_error_after_a_line_that_is_not_complete_is_no_part_of_it() -> None:
    """K2, K3: counted as output, it would hide as much of the line when that is read on."""
    begun = file((0, b"a", "F"), (1, b"thinking", "P"))
    reader = LogReader(followed=True)
    assert reader.feed(served(begun) + ERROR.encode()) == b"a\nthinking"
    assert reader.end() == ERROR
    assert reader.position == LogPosition(at(1), lines=1, length=8)
    log = begun + file((1, b" and more thinking", "F"))
    assert fed(LogReader(reader.position), served(log, reader.position)) == b" and more thinking\n"


def test_what_only_looks_like_an_error_is_output_once_its_line_goes_on() -> None:
    """K3: a line of a task that is not complete, and later is."""
    begun = file((0, f"it says: {ERROR}".encode(), "P"))
    reader = LogReader(followed=True)
    assert reader.feed(served(begun)) == b"it says: "
    assert reader.feed(b", twice\n") == f"{ERROR}, twice\n".encode()
    ended = LogReader(followed=True)
    ended.feed(served(begun))
    assert ended.end() == ERROR
    # The container has ended so. The log is read once more, without following it.
    assert fed(LogReader(ended.position), served(begun, ended.position)) == ERROR.encode()


@pytest.mark.parametrize("length", range(1, 32))
def test_a_timestamp_that_was_cut_is_no_error_of_the_kubelet(length: int) -> None:
    answer = served(lines((0, b"a"), (1, b"b")))
    reader = LogReader(followed=True)
    assert fed(reader, answer[: len(answer) // 2 + length - 1]).startswith(b"a\n")


def test_the_rest_of_a_known_line_that_was_cut_is_no_error_of_the_kubelet() -> None:
    log = file((0, b"a", "P"), (3, b"bcd", "F"), (4, b"next", "F"))
    first = LogReader()
    first.feed(served(log))
    assert fed(LogReader(first.position), b"bc") == b""


def test_a_very_long_line_is_not_held_back() -> None:
    reader = LogReader(followed=True)
    reader.feed(b"2026-01-01T12:00:00.000000000Z ")
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
