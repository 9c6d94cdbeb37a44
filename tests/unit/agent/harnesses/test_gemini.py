import json

from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.gemini import HARNESS

from .inputs import LONG_PROMPT, SERVERS, harness_input


def test_the_minimum() -> None:
    assert HARNESS.prepare(harness_input(LONG_PROMPT)) == Invocation(
        argv=("gemini",), stdin=LONG_PROMPT.encode()
    )


def test_everything() -> None:
    invocation = HARNESS.prepare(harness_input(model="pro", servers=SERVERS, sandboxed=True))
    assert invocation.argv == ("gemini", "--model", "pro", "--approval-mode", "yolo")
    assert invocation.environment == {
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_SYSTEM_DEFAULTS_PATH": "/scratch/gemini-defaults.json",
    }
    assert json.loads(invocation.files["gemini-defaults.json"]) == {
        "mcpServers": {
            "files": {"command": "npx", "args": ["-y", "srv"], "env": {"KEY": 'q"\\'}},
            "web.site": {"httpUrl": "https://h/mcp", "headers": {"Authorization": "Bearer t"}},
            "old": {"url": "https://h/sse", "headers": {}},
        }
    }
