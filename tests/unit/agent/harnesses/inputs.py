"""Runs as the harness tests give them to their harness."""

from pathlib import Path

from oz_agent_worker.agent.harnesses.base import HarnessInput
from oz_agent_worker.agent.mcp import McpServer

__all__ = ["LONG_PROMPT", "SCRATCH", "SERVERS", "harness_input"]

SCRATCH = Path("/scratch")
LONG_PROMPT = "0123456789abcdef" * 65536  # 1 MiB
SERVERS = (
    McpServer(name="files", command="npx", arguments=("-y", "srv"), environment={"KEY": 'q"\\'}),
    McpServer(name="web.site", url="https://h/mcp", headers={"Authorization": "Bearer t"}),
    McpServer(name="old", url="https://h/sse", sse=True),
)


def harness_input(
    prompt: str = "Do it.",
    *,
    title: str = "T",
    model: str = "",
    servers: tuple[McpServer, ...] = (),
    sandboxed: bool = False,
    template: str = "",
) -> HarnessInput:
    return HarnessInput(
        run_id="r1",
        title=title,
        prompt=prompt,
        scratch=SCRATCH,
        model=model,
        mcp_servers=servers,
        sandboxed=sandboxed,
        template=template,
    )
