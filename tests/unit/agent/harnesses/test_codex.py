import tomllib

from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.agent.harnesses.base import Invocation
from oz_agent_worker.agent.harnesses.codex import HARNESS
from oz_agent_worker.agent.mcp import McpServer

from .inputs import LONG_PROMPT, SERVERS, harness_input

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_minimum() -> None:
    assert HARNESS.prepare(harness_input(LONG_PROMPT)) == Invocation(
        argv=("codex", "exec", "--skip-git-repo-check", "--sandbox", "workspace-write", "-"),
        stdin=LONG_PROMPT.encode(),
    )


def test_everything() -> None:
    argv = HARNESS.prepare(harness_input(model="gpt-5", servers=SERVERS[:2], sandboxed=True)).argv
    assert argv == (
        "codex",
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "--model",
        "gpt-5",
        "-c",
        'mcp_servers.files={ command = "npx", args = ["-y", "srv"], env = { "KEY" = "q\\"\\\\" } }',
        "-c",
        'mcp_servers.web_site={ url = "https://h/mcp", http_headers = { "Authorization" = "Bearer t" } }',
        "-",
    )


@given(TEXT.filter(bool), st.lists(TEXT), st.dictionaries(TEXT, TEXT))
def test_every_server_is_valid_toml(command: str, arguments: list[str], environment: dict[str, str]) -> None:
    server = McpServer(name="s", command=command, arguments=tuple(arguments), environment=environment)
    override = HARNESS.prepare(harness_input(servers=(server,))).argv[-2]
    assert tomllib.loads(override) == {
        "mcp_servers": {"s": {"command": command, "args": arguments, "env": environment}}
    }
