"""Which task a line of the log is about."""

import asyncio
import logging
from collections.abc import Mapping

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import EventKind, TaskEvent
from oz_agent_worker.worker.log_fields import LogFields, about

KEY, OTHER = ExecutionKey("t", "e"), ExecutionKey("u", "f")


def record(*arguments: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x.py", 1, "%s " * len(arguments), arguments, None)


def test_a_line_about_no_task() -> None:
    assert LogFields().of(record("t")) == {}


def test_the_key_among_the_arguments() -> None:
    assert LogFields().of(record("a", KEY)) == {"task": "t", "execution": "e"}


def test_a_mapping_in_place_of_arguments() -> None:
    line = logging.LogRecord("x", logging.INFO, "x.py", 1, "%(a)s", ({"a": 1},), None)
    assert LogFields().of(line) == {}


async def test_the_task_that_works_for_an_execution_and_no_other() -> None:
    fields = LogFields()

    async def child() -> Mapping[str, str]:
        return fields.of(record())

    async def work(key: ExecutionKey) -> Mapping[str, str]:
        about(key)
        await asyncio.sleep(0)
        return await asyncio.create_task(child())

    first, second = await asyncio.gather(work(KEY), work(OTHER))
    assert (first["task"], second["task"]) == ("t", "u")
    assert fields.of(record()) == {}


async def test_the_argument_counts_more_than_the_task() -> None:
    async def work() -> Mapping[str, str]:
        about(KEY)
        return LogFields().of(record(OTHER))

    assert (await asyncio.create_task(work()))["task"] == "u"


def test_job_and_trace_are_known_until_the_task_is_left() -> None:
    fields = LogFields()
    fields(TaskEvent(EventKind.JOB_NAMED, KEY, "oz-1"))
    fields(TaskEvent(EventKind.TRACE_BEGAN, KEY, "0af7"))
    assert fields.of(record(KEY)) == {"task": "t", "execution": "e", "job": "oz-1", "trace_id": "0af7"}
    fields(TaskEvent(EventKind.RELEASED, KEY))
    assert fields.of(record(KEY)) == {"task": "t", "execution": "e"}
