import pytest

from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.shell import HARNESS

from .inputs import LONG_PROMPT, harness_input


def test_a_script_without_a_first_line_goes_to_sh() -> None:
    assert HARNESS.prepare(harness_input("echo hi")) == Invocation(
        argv=("/bin/sh", "/scratch/script"),
        environment={"PYTHONUNBUFFERED": "1"},
        files={"script": b"echo hi\n"},
    )


@pytest.mark.parametrize(
    ("first_line", "argv"),
    [
        ("#!/bin/bash", ("/bin/bash",)),
        ("#! /bin/bash -eu", ("/bin/bash", "-eu")),
        ("#!/usr/bin/env -S python3 -u", ("/usr/bin/env", "-S python3 -u")),
        ("#!/bin/bash\r", ("/bin/bash",)),
    ],
)
def test_the_first_line_names_the_program(first_line: str, argv: tuple[str, ...]) -> None:
    invocation = HARNESS.prepare(harness_input(f"{first_line}\nbody\n"))
    assert invocation.argv == (*argv, "/scratch/script")
    assert invocation.files == {"script": f"{first_line}\nbody\n".encode()}


@pytest.mark.parametrize("script", ["#!", "#!\necho", "#!  \n"])
def test_a_first_line_without_a_program(script: str) -> None:
    with pytest.raises(AgentUsageError, match="without a program"):
        HARNESS.prepare(harness_input(script))


def test_a_long_script_is_a_file() -> None:
    invocation = HARNESS.prepare(harness_input(LONG_PROMPT))
    assert sum(map(len, invocation.argv)) < 100
    assert invocation.files["script"] == LONG_PROMPT.encode() + b"\n"


def test_characters_that_utf_8_cannot_encode_are_replaced() -> None:
    assert HARNESS.prepare(harness_input("echo \ud800é")).files["script"] == "echo ?é\n".encode()
