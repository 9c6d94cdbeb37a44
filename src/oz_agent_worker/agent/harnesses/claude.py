"""``claude``: Claude Code, headless (code.claude.com/docs/en/headless, …/cli-reference)."""

import json
from typing import Any

from oz_agent_worker.agent.mcp import McpServer

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]

MCP_FILE = "mcp.json"


def _prepare(run: HarnessInput) -> Invocation:
    """``claude -p`` reads the prompt from stdin where its arguments have none.

    ``stream-json`` (which requires ``--verbose``) is the only output format that shows events as they
    happen; ``text`` prints the final answer only.
    """
    argv = ["claude", "-p", "--output-format", "stream-json", "--verbose"]
    environment = {}
    files = {}
    if run.model:
        argv += ["--model", run.model]
    if run.mcp_servers:
        # A file and not an argument: every process of the machine can read arguments, and the
        # servers' settings contain keys.
        argv += ["--mcp-config", str(run.scratch / MCP_FILE)]
        config = {"mcpServers": {server.name: _server(server) for server in run.mcp_servers}}
        files[MCP_FILE] = encode(json.dumps(config))
    if run.sandboxed:
        argv.append("--dangerously-skip-permissions")
        # As root, Claude Code accepts that flag only with this variable.
        environment["IS_SANDBOX"] = "1"
    return Invocation(argv=tuple(argv), environment=environment, stdin=encode(run.prompt), files=files)


def _server(server: McpServer) -> dict[str, Any]:
    if server.command:
        return {
            "type": "stdio",
            "command": server.command,
            "args": server.arguments,
            "env": dict(server.environment),
        }
    return {"type": "sse" if server.sse else "http", "url": server.url, "headers": dict(server.headers)}


HARNESS = Harness(
    name="claude",
    about="Claude Code",
    prepare=_prepare,
    install_hint="npm install -g @anthropic-ai/claude-code, or mount it with coding_cli_sidecars",
)
