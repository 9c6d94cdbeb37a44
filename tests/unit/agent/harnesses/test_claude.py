import json

from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.claude import HARNESS

from .inputs import LONG_PROMPT, SERVERS, harness_input


def test_the_minimum() -> None:
    assert HARNESS.prepare(harness_input(LONG_PROMPT)) == Invocation(
        argv=("claude", "-p", "--output-format", "stream-json", "--verbose"), stdin=LONG_PROMPT.encode()
    )


def test_everything() -> None:
    invocation = HARNESS.prepare(harness_input(model="sonnet", servers=SERVERS, sandboxed=True))
    assert invocation.argv == (
        "claude",
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--model",
        "sonnet",
        "--mcp-config",
        "/scratch/mcp.json",
        "--dangerously-skip-permissions",
    )
    assert invocation.environment == {"IS_SANDBOX": "1"}
    assert json.loads(invocation.files["mcp.json"]) == {
        "mcpServers": {
            "files": {"type": "stdio", "command": "npx", "args": ["-y", "srv"], "env": {"KEY": 'q"\\'}},
            "web.site": {"type": "http", "url": "https://h/mcp", "headers": {"Authorization": "Bearer t"}},
            "old": {"type": "sse", "url": "https://h/sse", "headers": {}},
        }
    }
