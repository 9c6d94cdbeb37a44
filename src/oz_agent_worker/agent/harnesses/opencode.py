"""``opencode``: OpenCode's ``run`` command (opencode.ai/docs/cli, …/config)."""

import json
from typing import Any

from oz_agent_worker.agent.mcp import McpServer

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]

CONFIG_FILE = "opencode.json"


def _prepare(run: HarnessInput) -> Invocation:
    """``opencode run`` reads its message from stdin where stdin is no terminal.

    Permissions and MCP servers are a configuration file that is merged over the global
    one and below the project's. Flags for them came and went between versions.
    """
    argv = ["opencode", "run"]
    if run.model:
        argv += ["--model", run.model]
    config: dict[str, Any] = {}
    if run.sandboxed:
        config["permission"] = "allow"
    if run.mcp_servers:
        config["mcp"] = {server.name: _server(server) for server in run.mcp_servers}
    if not config:
        return Invocation(argv=tuple(argv), stdin=encode(run.prompt))
    return Invocation(
        argv=tuple(argv),
        environment={"OPENCODE_CONFIG": str(run.scratch / CONFIG_FILE)},
        stdin=encode(run.prompt),
        files={CONFIG_FILE: encode(json.dumps(config))},
    )


def _server(server: McpServer) -> dict[str, Any]:
    if server.command:
        return {
            "type": "local",
            "command": [server.command, *server.arguments],
            "environment": dict(server.environment),
            "enabled": True,
        }
    return {"type": "remote", "url": server.url, "headers": dict(server.headers), "enabled": True}


HARNESS = Harness(
    name="opencode",
    about="OpenCode",
    prepare=_prepare,
    install_hint="npm install -g opencode-ai, or mount it with coding_cli_sidecars",
)
