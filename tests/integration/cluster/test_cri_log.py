"""The played kubelet's logs beside the kubelet's own reader: the same answers, byte by byte."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cluster.crilog import CriLogReader, Step
from tests.cluster.kubelet.cri_log import LONGEST_TEXT, LogOptions, Recorder, read_log_file, record
from tests.cluster.kubelet.logs import ContainerLog

pytestmark = pytest.mark.cluster

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NO_FILES = "failed to create fsnotify watcher: too many open files"


def at(milliseconds: int) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


LOGS = {
    "nothing": b"",
    "lines": b"".join(record(at(400 * n), b"line %d" % n) for n in range(9)),
    "empty lines": record(at(0), b"") * 3 + record(at(999), b"a"),
    "a line over two seconds": record(at(900), b"a", tag="P")
    + record(at(1100), b"b", tag="P")
    + record(at(1900), b"c")
    + record(at(2000), b"next"),
    "CRI-O's end of a line": record(at(0), b"dots", tag="P")
    + record(at(1000), b".", tag="P")
    + record(at(1000), b"")
    + record(at(1000), b"next"),
    "no end of the last line": record(at(0), b"a") + record(at(1000), b"b", tag="P"),
    "a record that is being written": record(at(0), b"a") + record(at(1000), b"bcd")[:-2],
    "two streams": record(at(900), b"out", tag="P")
    + record(at(1000), b"error", stream="stderr")
    + record(at(1001), b"put"),
    "times that go back": record(at(1500), b"a") + record(at(1400), b"b") + record(at(2000), b"c"),
    "other forms of a time": b"2026-01-01T14:00:01.5+02:00 stdout F a\n"
    b"2026-01-01T12:00:02Z stdout F b\n"
    b"2026-01-01T12:00:02.123456789Z stdout F c\n"
    b"2026-01-01T12:00:03.000000000+00:00 stdout F d\n",
    "more tags": b"2026-01-01T12:00:01Z stdout F:more a\n2026-01-01T12:00:01Z stdout P:more b\n",
    "broken records": record(at(0), b"a")
    + b"rubbish\n\n2026-01-01T12:00:01Z stdin F b\n2026-01-01T12:00:01Z stdout F\nyesterday stdout F c\n"
    + record(at(2000), b"carriage\rreturn \x0b\x0c\x1c \xff"),
    "no record at all": b"rubbish\n",
    "long lines": Recorder().write(
        b"x" * (2 * LONGEST_TEXT + 5) + b"\n" + b"y" * LONGEST_TEXT + b"\nz\n", at(1000)
    ),
}

OPTIONS = [
    LogOptions(timestamps=timestamps, tail=tail, limit=limit, since=since)
    for timestamps in (False, True)
    for tail in (None, 0, 1, 3, 100)
    for limit in (None, 1, 40, 20_000)
    for since in (None, at(1000), at(2000), at(60_000))
]


@pytest.fixture(scope="module")
def kubelets_reader() -> Iterator[CriLogReader]:
    with CriLogReader() as reader:
        yield reader


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_log_file_gives_the_same_answer_to_every_request(
    kubelets_reader: CriLogReader, tmp_path: Path, log: bytes
) -> None:
    file = tmp_path / "0.log"
    file.write_bytes(log)
    for options in OPTIONS:
        assert read_log_file(log, options) == kubelets_reader.read(file, options), options


records = st.builds(
    record,
    st.integers(0, 4000).map(at),
    st.binary(max_size=20).map(lambda text: text.replace(b"\n", b" ")),
    tag=st.sampled_from("PF"),
    stream=st.sampled_from(["stdout", "stderr"]),
)
requests = st.builds(
    LogOptions,
    follow=st.just(False),
    timestamps=st.booleans(),
    tail=st.none() | st.integers(0, 8),
    limit=st.none() | st.integers(1, 300),
    since=st.none() | st.integers(0, 4).map(lambda second: at(1000 * second)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, max_size=8).map(b"".join), st.integers(0, 10), requests)
def test_any_log_file_gives_the_same_answer(
    kubelets_reader: CriLogReader, tmp_path: Path, log: bytes, cut: int, options: LogOptions
) -> None:
    log = log[: len(log) - cut]
    file = tmp_path / "0.log"
    file.write_bytes(log)
    assert read_log_file(log, options) == kubelets_reader.read(file, options)


async def follow(log: bytes, steps: Sequence[Step], options: LogOptions, error: str = "") -> bytes:
    """What a follower of the played kubelet's log gets."""
    container, _answer = ContainerLog(), b""
    container.append(log)

    async def read() -> bytes:
        return b"".join([piece async for piece in container.read(options)])

    reader = asyncio.create_task(read())
    for step in steps:
        for _ in range(3):
            await asyncio.sleep(0)
        if step.rotate:
            container.rotate()
        container.append(step.append)
    for _ in range(3):
        await asyncio.sleep(0)
    if error:
        container.fail_followers(error)
    else:
        container.close()
    return await reader


PART, END, LINE = record(at(900), b"a", tag="P"), record(at(1100), b"b"), record(at(2000), b"line")


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Step(LINE)],
        [Step(END), Step(LINE), Step(PART)],
        [Step(LINE[:20]), Step(LINE[20:])],
        [Step(LINE), Step(LINE[:20])],
        [Step(LINE, rotate=True)],
        [Step(END, rotate=True), Step(LINE)],
        [Step(PART), Step(PART, rotate=True), Step(END)],
    ],
    ids=[
        "nothing more",
        "a line",
        "the end of a line",
        "a record in two pieces",
        "half a record at the end",
        "rotated",
        "rotated in a line",
        "a line begins in a new file",
    ],
)
@pytest.mark.parametrize("error", ["", "rpc error: code = Unknown desc = the runtime is gone"])
def test_a_follower_gets_the_same_answer(
    kubelets_reader: CriLogReader, tmp_path: Path, steps: list[Step], error: str
) -> None:
    log = LINE + PART
    for number, options in enumerate(
        LogOptions(follow=True, timestamps=timestamps, tail=tail, since=since, limit=limit)
        for timestamps in (False, True)
        for tail, since, limit in [
            (None, None, None),
            (1, None, None),
            (None, at(1000), None),
            (None, None, 45),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "0.log").write_bytes(log)
        real = kubelets_reader.read(folder / "0.log", options, steps, error)
        assert asyncio.run(follow(log, steps, options, error)) == real, options


def test_an_error_takes_the_place_of_a_log_that_cannot_be_read(
    kubelets_reader: CriLogReader, tmp_path: Path
) -> None:
    """K3: it has no timestamp and no line feed."""
    path = tmp_path / "0.log"
    error = kubelets_reader.read(path, LogOptions(timestamps=True)).decode()
    assert error.startswith("failed to try resolving symlinks in path ")

    async def played() -> bytes:
        log = ContainerLog()
        log.write(b"something\n")
        log.open_error = error
        return b"".join([piece async for piece in log.read(LogOptions(timestamps=True))])

    assert asyncio.run(played()) == error.encode()
