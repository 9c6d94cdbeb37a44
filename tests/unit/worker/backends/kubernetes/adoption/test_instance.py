import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.adoption.instance import (
    UNAVAILABLE,
    Machine,
    PodInstance,
    ProcessInstance,
    parse_instance,
)

WORD = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)


@given(
    st.builds(PodInstance, WORD, WORD, WORD)
    | st.builds(
        ProcessInstance,
        st.builds(Machine, WORD, WORD, st.just(UNAVAILABLE) | WORD),
        st.integers(min_value=0),
        WORD,
    )
)
def test_an_instance_is_read_back_as_it_was_written(instance: PodInstance | ProcessInstance) -> None:
    assert parse_instance(str(instance)) == instance


@given(
    st.none() | st.text() | st.lists(st.sampled_from(["pod", "process", "1", "01", "²", ""])).map("/".join)
)
def test_any_text_is_an_instance_or_unknown(text: str | None) -> None:
    found = parse_instance(text)
    assert found is None or str(found) == text


def test_every_form() -> None:
    assert parse_instance("pod/agents/worker-0/7c1d") == PodInstance("agents", "worker-0", "7c1d")
    assert parse_instance("process/host/boot/12/345") == ProcessInstance(Machine("host", "boot"), 12, "345")
    inside = ProcessInstance(Machine("host", "boot", "4026531836"), 12, "345")
    assert parse_instance("process/host/boot/4026531836/12/345") == inside


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "pod",
        "pod/agents/worker-0",
        "pod/agents/worker-0/7c1d/more",
        "pod//worker-0/7c1d",
        "Pod/agents/worker-0/7c1d",
        "process/host/boot/twelve/345",
        "process/host/boot/012/345",
        "process/host/boot/-1/345",
        "process/host/boot/12",
        "process/host/boot/-/12/345",
        "process/host/boot/4026531836/12/345/more",
        "host/name/hash",
    ],
)
def test_anything_else_is_unknown(text: str | None) -> None:
    assert parse_instance(text) is None
