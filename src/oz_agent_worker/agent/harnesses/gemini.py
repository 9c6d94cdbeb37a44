"""``gemini``: Gemini CLI, headless (geminicli.com/docs/cli/headless)."""

import json
from typing import Any

from oz_agent_worker.agent.mcp import McpServer

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]

SETTINGS_FILE = "gemini-defaults.json"


def _prepare(run: HarnessInput) -> Invocation:
    """Without a terminal on stdin Gemini CLI is headless and reads the prompt from stdin."""
    argv = ["gemini"]
    environment = {}
    files = {}
    if run.model:
        argv += ["--model", run.model]
    if run.sandboxed:
        argv += ["--approval-mode", "yolo"]
        # Headless runs end at once in a folder that is not trusted.
        environment["GEMINI_CLI_TRUST_WORKSPACE"] = "true"
    if run.mcp_servers:
        # System defaults have the lowest precedence: settings of the user and the project override them.
        environment["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"] = str(run.scratch / SETTINGS_FILE)
        settings = {"mcpServers": {server.name: _server(server) for server in run.mcp_servers}}
        files[SETTINGS_FILE] = encode(json.dumps(settings))
    return Invocation(argv=tuple(argv), environment=environment, stdin=encode(run.prompt), files=files)


def _server(server: McpServer) -> dict[str, Any]:
    if server.command:
        return {"command": server.command, "args": server.arguments, "env": dict(server.environment)}
    return {"url" if server.sse else "httpUrl": server.url, "headers": dict(server.headers)}


HARNESS = Harness(
    name="gemini",
    about="Gemini CLI",
    prepare=_prepare,
    install_hint="npm install -g @google/gemini-cli, or mount it with coding_cli_sidecars",
)
