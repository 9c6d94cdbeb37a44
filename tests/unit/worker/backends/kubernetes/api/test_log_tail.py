"""What is kept of a long log that goes, or becomes another, while its end is read."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.errors import NotFoundError, Status, status_error
from oz_agent_worker.worker.backends.kubernetes.api.log_tail import read_end
from oz_agent_worker.worker.backends.kubernetes.api.rest import Request
from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import BEGINNING, LogPosition
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogTail, annotated
from tests.cluster.kubelet.cri_log import LogOptions, Recorder, read_log_file, record

LIMIT = 1000
START = datetime(2026, 1, 1, tzinfo=UTC)
LINES = [record(START + timedelta(microseconds=n), b"line %04d" % n) for n in range(3000)]
LATER = [line.replace(b"line", b"next") for line in LINES]
GONE = 'pods "p" not found'
ROTATED = "the container's log was rotated meanwhile"

Serve = Callable[[int, dict[str, str]], bytes]


def output(lines: list[bytes], **query: str) -> bytes:
    return the_log(lines, query)


class Kubelet:
    """Serves what ``serve`` says of the number of the request and of its query; nothing means: gone."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.requests = count()
        self.received = 0

    async def read(self, limit: int, after: LogPosition | None, request: Request) -> LogTail:
        log = LogTail(limit, after)
        log.feed(self._serve(next(self.requests), dict(request.query)))
        log.end()
        self.received += log.received
        return log


def the_log(lines: list[bytes], query: dict[str, str]) -> bytes:
    return read_log_file(b"".join(lines), LogOptions.parse(query, START))


def unstamped(answer: bytes) -> bytes:
    """What is left of an answer without its timestamps."""
    return b"".join(line[31:] for line in answer.splitlines(keepends=True))


#: What fits into the first request.
FIRST = output(LINES, limitBytes=str(2 * LIMIT), timestamps="true")


def gone_from(number: int) -> Serve:
    def serve(asked: int, query: dict[str, str]) -> bytes:
        if asked >= number:
            raise status_error(404, Status(code=404, message=GONE), verb="get", path="/p")
        return the_log(LINES, query)

    return serve


def rotated_to(lines: list[bytes]) -> Serve:
    return lambda asked, query: the_log(lines if asked else LINES, query)


def read_rest(serve: Serve) -> bytes:
    ask = partial(rest.read_log, "n", "p", "task", timestamps=True)
    read = read_end(ask, partial(Kubelet(serve).read, LIMIT, BEGINNING), LIMIT)
    return b"".join(annotated(asyncio.run(read)))


def read_tail(serve: Serve) -> bytes:
    ask = partial(rest.read_log, "n", "p", "task")
    read = read_end(ask, partial(Kubelet(serve).read, LIMIT, None), LIMIT)
    return b"".join(annotated(asyncio.run(read)))


@pytest.mark.parametrize(
    ("serve", "why"), [(gone_from(1), GONE), (rotated_to([]), ROTATED)], ids=["deleted", "emptied"]
)
def test_what_came_first_is_kept_where_nothing_comes_after_it(serve: Serve, why: str) -> None:
    text = read_rest(serve)
    assert text.startswith(unstamped(FIRST))
    note = text.splitlines()[-1].decode()
    assert note.startswith("[oz-agent-worker: the log was read so far, and its end could not be: ")
    assert why in note
    assert text.count(b"[oz-agent-worker: ") == 1


def test_it_is_kept_without_timestamps_too() -> None:
    text = read_tail(gone_from(1))
    first = output(LINES, limitBytes=str(2 * LIMIT))
    assert text.startswith(b"[oz-agent-worker: 1000 bytes of the log are left out here]\n" + first[-LIMIT:])
    assert text.endswith(f": {GONE}]\n".encode())


def test_of_a_log_that_was_rotated_both_files_are_kept() -> None:
    newer = LATER[:7]
    text = read_rest(rotated_to(newer))
    gap = f"\n[oz-agent-worker: {ROTATED}, and a part of it may be missing here]\n".encode()
    assert text == unstamped(FIRST) + gap + output(newer)


def test_of_a_log_that_was_rotated_long_ago_the_end_alone_is_kept() -> None:
    text = read_rest(rotated_to(LATER))
    assert text.endswith(output(LATER)[-LIMIT:])
    assert b"are left out here" in text.splitlines()[0]


def test_a_log_of_which_nothing_can_be_read_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="not found"):
        read_rest(gone_from(0))


def test_a_rotated_log_has_one_gap_marker() -> None:
    text = read_rest(rotated_to(LINES))
    assert text.count(b"[oz-agent-worker: ") == 1
    assert text.endswith(output(LINES)[-LIMIT:])


def test_the_end_is_kept_where_the_log_goes_before_more_of_it_is_read() -> None:
    text = read_tail(gone_from(2))
    note, *lines = text.splitlines(keepends=True)
    assert note.endswith(b"bytes of the log are left out here]\n")
    assert b"".join(lines) == output(LINES[-len(lines) :])


KIB, MIB = 1024, 1024 * 1024


def read_lines(
    lengths: list[int], limit: int, stamped: bool = False, longest_entry: int = 16 * KIB
) -> tuple[LogTail, Kubelet, bytes]:
    """Read the end of a log of lines of these lengths, line feeds included; return all of the log too.

    The container runtime breaks lines into entries, and ``tailLines`` counts those.
    """
    lines = [bytes([97 + n % 26]) * (length - 1) + b"\n" for n, length in enumerate(lengths)]
    recorder = Recorder(longest=longest_entry)
    entries = [recorder.write(line, START) for line in lines]
    kubelet = Kubelet(lambda asked, query: the_log(entries, query))
    ask = partial(rest.read_log, "n", "p", "task", timestamps=stamped)
    read = partial(kubelet.read, limit, BEGINNING if stamped else None)
    return asyncio.run(read_end(ask, read, limit)), kubelet, b"".join(lines)


@given(st.lists(st.integers(1, 60), max_size=300), st.integers(1, 2000), st.booleans())
def test_the_limit_is_kept_and_the_gap_is_marked(lengths: list[int], limit: int, stamped: bool) -> None:
    log, kubelet, whole = read_lines(lengths, limit, stamped)
    kept = b"".join(log.chunks())
    assert kept == whole[-limit:]
    assert bool(log.omission) is (kept != whole)
    assert not log.ending
    assert next(kubelet.requests) <= limit.bit_length() + 2


@pytest.mark.parametrize("length", [16, 100, 1000, 10_000, 16 * KIB])
def test_of_a_long_log_little_more_is_read_than_is_kept(length: int) -> None:
    log, kubelet, whole = read_lines([length] * (8 * MIB // length), MIB)
    assert b"".join(log.chunks()) == whole[-MIB:]
    assert kubelet.received <= 6 * MIB
    assert next(kubelet.requests) <= 4


@pytest.mark.parametrize(
    "lengths",
    [[16 * KIB] * 131 + [20] * 40_000, [20] * 110_000 + [16 * KIB] * 4000],
    ids=["shorter", "longer"],
)
def test_the_limit_is_kept_where_the_last_lines_are_unlike_the_first(lengths: list[int]) -> None:
    log, kubelet, whole = read_lines(lengths, MIB)
    assert b"".join(log.chunks()) == whole[-MIB:]
    assert kubelet.received <= 6 * MIB


@pytest.mark.parametrize("longest_entry", [KIB, 8 * KIB])
@pytest.mark.parametrize("lengths", [[10 * MIB], [80] * 30_000 + [9 * MIB]], ids=["one line", "last line"])
@pytest.mark.parametrize("stamped", [False, True])
def test_a_line_of_many_entries_is_not_taken_for_a_rotated_log(
    lengths: list[int], longest_entry: int, stamped: bool
) -> None:
    log, _, whole = read_lines(lengths, MIB, stamped, longest_entry)
    kept = b"".join(log.chunks())
    assert b"rotated" not in kept
    assert whole.endswith(kept)


@pytest.mark.parametrize("length", [1, 16, 1000])
def test_of_a_long_log_with_timestamps_the_limit_is_kept_too(length: int) -> None:
    log, _, whole = read_lines([length] * (1 + 8 * 20_000 // length), 20_000, stamped=True)
    assert b"".join(log.chunks()) == whole[-20_000:]


def test_a_log_that_only_its_timestamps_make_long_is_kept_whole() -> None:
    log, _, whole = read_lines([1] * 2000, 20_000, stamped=True)
    assert b"".join(log.chunks()) == whole
    assert log.omission == ""
