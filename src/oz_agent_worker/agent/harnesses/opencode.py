"""``opencode``: OpenCode's ``run`` command (opencode.ai/docs/cli, …/config)."""

import json
from typing import Any

from oz_agent_worker.agent.mcp import McpServer

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]

CONFIG_FILE = "opencode.json"


def _prepare(run: HarnessInput) -> Invocation:
    """Without a terminal on stdin ``opencode run`` reads its message from stdin.

    Permissions and MCP servers go into a configuration file, which overrides the global one and which the
    project's overrides. Versions differ in whether they have flags for them.
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
