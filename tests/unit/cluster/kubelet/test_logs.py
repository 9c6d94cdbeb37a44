import asyncio
from datetime import UTC, datetime, timedelta

from tests.cluster.kubelet.cri_log import LogOptions
from tests.cluster.kubelet.logs import ContainerLog

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def content(log: ContainerLog, options: LogOptions) -> bytes:
    return b"".join([piece async for piece in log.read(options)])


def parse(**query: str) -> LogOptions:
    return LogOptions.parse(query, NOW)


def test_options_are_those_of_the_api() -> None:
    assert parse() == LogOptions()
    assert parse(follow="true", timestamps="true") == LogOptions(follow=True, timestamps=True)
    assert parse(tailLines="5", limitBytes="7") == LogOptions(tail=5, limit=7)
    assert parse(sinceSeconds="60").since == NOW - timedelta(minutes=1)
    assert parse(sinceTime="2026-01-02T03:04:05Z").since == NOW


async def test_reads_whole_lines_and_a_last_one_without_its_end() -> None:
    log = ContainerLog()
    log.write(b"one\ntw")
    assert await content(log, parse()) == b"one\n"
    log.write(b"o\nthree")
    log.close()
    assert await content(log, parse()) == b"one\ntwo\nthree"


async def test_tail_and_limit() -> None:
    log = ContainerLog()
    log.write(b"one\ntwo\nthree\n")
    assert await content(log, parse(tailLines="2")) == b"two\nthree\n"
    assert await content(log, parse(tailLines="0")) == b""
    assert await content(log, parse(limitBytes="6")) == b"one\ntw"
    assert await content(log, parse(tailLines="9", limitBytes="4")) == b"one\n"


async def test_follow_gives_each_line_once_until_the_end() -> None:
    log = ContainerLog()
    log.write(b"one\n")
    reader = asyncio.create_task(content(log, parse(follow="true")))
    await asyncio.sleep(0)
    log.write(b"two\n")
    await asyncio.sleep(0)
    assert not reader.done()
    log.write(b"three")
    log.close()
    assert await reader == b"one\ntwo\nthree"
