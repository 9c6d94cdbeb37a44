import pytest

from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.mcp import McpServer, decode_servers, decode_servers_argument


def test_servers_by_program_by_address_and_incomplete_ones() -> None:
    servers, left_out = decode_servers(
        [
            {
                "files": {"command": "npx", "args": ["-y", 7], "env": {"KEY": "k", "N": 1}},
                "web": {"url": "https://h/mcp", "headers": {"Authorization": "Bearer t"}},
                "old": {"type": "sse", "url": "https://h/sse"},
                "public": {"warp_id": "123"},
                "odd": "text",
            }
        ]
    )
    assert servers == (
        McpServer(name="files", command="npx", arguments=("-y", "7"), environment={"KEY": "k", "N": "1"}),
        McpServer(name="web", url="https://h/mcp", headers={"Authorization": "Bearer t"}),
        McpServer(name="old", url="https://h/sse", sse=True),
    )
    assert left_out == ("public", "odd")


def test_a_later_map_overrides_a_name_and_may_be_wrapped() -> None:
    servers, _ = decode_servers([{"a": {"command": "x"}}, {"mcpServers": {"a": {"command": "y"}}}])
    assert [server.command for server in servers] == ["y"]


def test_the_argument() -> None:
    assert decode_servers_argument('{"a": {"command": "x"}}') == {"a": {"command": "x"}}


@pytest.mark.parametrize("text", ["hush", "[]", '"hush"', "{hush", "[" * 100_000])
def test_an_invalid_argument_is_not_quoted(text: str) -> None:
    with pytest.raises(AgentUsageError, match="--mcp takes a JSON object") as caught:
        decode_servers_argument(text)
    assert "hush" not in str(caught.value)


def test_keys_are_not_in_the_repr() -> None:
    assert "hush" not in repr(
        McpServer(name="a", command="x", environment={"K": "hush"}, headers={"A": "hush"})
    )
