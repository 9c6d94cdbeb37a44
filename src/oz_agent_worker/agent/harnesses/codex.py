"""``codex``: Codex CLI, non-interactive (developers.openai.com/codex/noninteractive)."""

import json
import re
from collections.abc import Mapping

from oz_agent_worker.agent.mcp import McpServer

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]


def _prepare(run: HarnessInput) -> Invocation:
    """``codex exec -`` reads the prompt from stdin.

    It writes progress to stderr as it happens and the final message to stdout. Without ``--sandboxed``
    Codex keeps its own sandbox, in which it can write to the workspace.
    """
    # A workspace need not be a git repository.
    argv = ["codex", "exec", "--skip-git-repo-check"]
    if run.sandboxed:
        argv.append("--dangerously-bypass-approvals-and-sandbox")
    else:
        argv += ["--sandbox", "workspace-write"]
    if run.model:
        argv += ["--model", run.model]
    for server in run.mcp_servers:
        argv += ["-c", _override(server)]
    return Invocation(argv=(*argv, "-"), stdin=encode(run.prompt))


def _override(server: McpServer) -> str:
    """Return the ``-c`` override of one server: a dotted key and a TOML value.

    Codex splits the key at its dots and allows letters, digits, ``-`` and ``_`` in the name of a server.
    """
    if server.command:
        arguments = ", ".join(_toml(argument) for argument in server.arguments)
        value = f"command = {_toml(server.command)}, args = [{arguments}], env = {_table(server.environment)}"
    else:
        value = f"url = {_toml(server.url)}, http_headers = {_table(server.headers)}"
    return f"mcp_servers.{re.sub(r'[^A-Za-z0-9_-]', '_', server.name)}={{ {value} }}"


def _table(members: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{_toml(name)} = {_toml(value)}" for name, value in members.items()) + " }"


def _toml(text: str) -> str:
    # A JSON string is a TOML basic string except for DEL and surrogate pairs, hence ensure_ascii=False.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


HARNESS = Harness(
    name="codex",
    about="Codex CLI",
    prepare=_prepare,
    install_hint="npm install -g @openai/codex, or mount it with coding_cli_sidecars",
)
