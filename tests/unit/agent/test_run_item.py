import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.agent.errors import FetchError
from oz_agent_worker.agent.run_item import RunItem, decode_run_item


def test_a_whole_run_item() -> None:
    item = {
        "run_id": "r1",
        "task_id": "r1",
        "title": "Say hello",
        "prompt": "echo hello",
        "state": "INPROGRESS",
        "created_at": "2026-01-01T00:00:00Z",
        "agent_config": {
            "harness": {"type": " claude "},
            "model_id": "sonnet",
            "base_prompt": "Be brief.",
            "mcp_servers": {"a": {"command": "x"}},
            "worker_host": "w",
        },
    }
    assert decode_run_item(json.dumps(item).encode(), "asked") == RunItem(
        run_id="r1",
        title="Say hello",
        prompt="echo hello",
        state="INPROGRESS",
        harness="claude",
        model="sonnet",
        base_prompt="Be brief.",
        mcp_servers={"a": {"command": "x"}},
    )


@pytest.mark.parametrize("body", [b"{}", b'{"agent_config": null, "prompt": null}'])
def test_members_may_be_absent_or_null(body: bytes) -> None:
    assert decode_run_item(body, "asked") == RunItem(run_id="asked")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html>", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no run item"),
        (b'{"prompt": 1}', "prompt is not a string"),
        (b'{"agent_config": []}', "agent_config is not an object"),
        (b'{"agent_config": {"harness": {"type": 5}}}', "agent_config.harness.type is not a string"),
        (b'{"agent_config": {"mcp_servers": "x"}}', "agent_config.mcp_servers is not an object"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_invalid_run_items(body: bytes, text: str) -> None:
    with pytest.raises(FetchError) as caught:
        decode_run_item(body, "asked")
    assert text in str(caught.value)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_any_body_is_a_run_item_or_a_fetch_error(body: bytes) -> None:
    with suppress(FetchError):
        assert isinstance(decode_run_item(body, "asked"), RunItem)
