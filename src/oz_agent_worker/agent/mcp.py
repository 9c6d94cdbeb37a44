"""MCP servers of a run, in one form that every harness translates into its own."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import AgentUsageError
from .json_input import loads

__all__ = ["McpServer", "decode_servers", "decode_servers_argument"]


@dataclass(frozen=True, kw_only=True)
class McpServer:
    """One server: a program (``command``) or an address (``url``), never both.

    ``environment`` and ``headers`` may hold secrets, and so stay out of every text.
    """

    name: str
    command: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sse: bool = False
    """The address speaks the older HTTP+SSE transport in place of streamable HTTP."""


def decode_servers_argument(text: str) -> Mapping[str, Any]:
    """Decode the value of ``--mcp``.

    Raises:
        AgentUsageError: not a JSON object. The message does not quote the text, which may hold secrets.
    """
    try:
        servers = loads(text)
    except (ValueError, RecursionError):
        servers = None
    if not isinstance(servers, dict):
        raise AgentUsageError(
            '--mcp takes a JSON object of servers: {"name": {"command": …}} or {"name": {"url": …}}'
        )
    return servers


def decode_servers(maps: Iterable[Mapping[str, Any]]) -> tuple[tuple[McpServer, ...], tuple[str, ...]]:
    """Merge maps of servers (a later one wins a name) into (servers, names left out).

    A server that names neither a program nor an address is left out, such as a reference that only the
    public service can resolve. A map may be wrapped in
    ``mcpServers``, as in the configuration files of most clients.
    """
    merged: dict[str, Any] = {}
    for servers in maps:
        wrapped = servers.get("mcpServers")
        merged |= wrapped if isinstance(wrapped, dict) else servers
    decoded = {name: _decode(name, server) for name, server in merged.items()}
    return (
        tuple(server for server in decoded.values() if server is not None),
        tuple(name for name, server in decoded.items() if server is None),
    )


def _decode(name: str, server: Any) -> McpServer | None:
    if not isinstance(server, dict):
        return None
    command, url = server.get("command"), server.get("url") or server.get("httpUrl")
    arguments = server.get("args")
    if isinstance(command, str) and command:
        return McpServer(
            name=name,
            command=command,
            arguments=tuple(str(a) for a in arguments) if isinstance(arguments, list) else (),
            environment=_strings(server.get("env")),
        )
    if isinstance(url, str) and url:
        sse = server.get("type") == "sse"
        return McpServer(name=name, url=url, headers=_strings(server.get("headers")), sse=sse)
    return None


def _strings(members: Any) -> dict[str, str]:
    if not isinstance(members, dict):
        return {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
