import json

from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.opencode import HARNESS

from .inputs import LONG_PROMPT, SERVERS, harness_input


def test_the_minimum() -> None:
    assert HARNESS.prepare(harness_input(LONG_PROMPT)) == Invocation(
        argv=("opencode", "run"), stdin=LONG_PROMPT.encode()
    )


def test_everything() -> None:
    invocation = HARNESS.prepare(harness_input(model="anthropic/sonnet", servers=SERVERS[:2], sandboxed=True))
    assert invocation.argv == ("opencode", "run", "--model", "anthropic/sonnet")
    assert invocation.environment == {"OPENCODE_CONFIG": "/scratch/opencode.json"}
    assert json.loads(invocation.files["opencode.json"]) == {
        "permission": "allow",
        "mcp": {
            "files": {
                "type": "local",
                "command": ["npx", "-y", "srv"],
                "environment": {"KEY": 'q"\\'},
                "enabled": True,
            },
            "web.site": {
                "type": "remote",
                "url": "https://h/mcp",
                "headers": {"Authorization": "Bearer t"},
                "enabled": True,
            },
        },
    }
