import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.command import HARNESS

from .inputs import LONG_PROMPT, harness_input


@pytest.mark.parametrize(
    ("template", "argv"),
    [
        ("agent 'two words' {run_id}", ("agent", "two words", "r1")),
        ('["agent", "{model}", "--t={title}"]', ("agent", "m", "--t=T")),
        (r'["agent", "\ud83c\udf89", "\ud83c"]', ("agent", "\U0001f389", "\ufffd")),
        ("agent {{run_id}} {other} {}", ("agent", "{r1}", "{other}", "{}")),
    ],
)
def test_without_a_prompt_placeholder_the_prompt_is_on_stdin(template: str, argv: tuple[str, ...]) -> None:
    assert HARNESS.prepare(harness_input(model="m", template=template)) == Invocation(
        argv=argv, stdin=b"Do it."
    )


def test_the_prompt_as_a_file() -> None:
    assert HARNESS.prepare(harness_input(LONG_PROMPT, template="agent --file={prompt_file}")) == Invocation(
        argv=("agent", "--file=/scratch/prompt"), files={"prompt": LONG_PROMPT.encode()}
    )


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100))
def test_the_prompt_as_an_argument_is_one_argument_whatever_it_is(prompt: str) -> None:
    assert HARNESS.prepare(harness_input(prompt, template="agent -p {prompt}")).argv == (
        "agent",
        "-p",
        prompt,
    )


def test_replacements_are_not_searched_for_placeholders() -> None:
    argv = HARNESS.prepare(harness_input("{title}", title="{run_id}", template="agent {prompt} {title}")).argv
    assert argv == ("agent", "{title}", "{run_id}")


@pytest.mark.parametrize("prompt", [LONG_PROMPT, "é" * 65536, "a\0b"])
def test_a_prompt_that_cannot_be_an_argument_has_an_error_with_the_fix(prompt: str) -> None:
    with pytest.raises(AgentUsageError, match=r"use \{prompt_file\}"):
        HARNESS.prepare(harness_input(prompt, template="agent {prompt}"))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", "needs OZ_AGENT_COMMAND"),
        ("agent 'open", "cannot be read"),
        ('["agent"', "cannot be read"),
        ("[]", "must be a program"),
        ('["agent", 1]', "must be a program"),
        ('[""]', "must be a program"),
        ("''", "must be a program"),
    ],
)
def test_invalid_templates(template: str, text: str) -> None:
    with pytest.raises(AgentUsageError, match=text):
        HARNESS.prepare(harness_input(template=template))
