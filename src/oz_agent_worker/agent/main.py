"""``oz-agent``: fetch the run, choose the harness, start it, and end with its exit code."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from oz_agent_worker.contract import exec_problem

from .arguments import RunCommand, parse_command
from .errors import (
    AgentError,
    AgentExitCode,
    AgentUsageError,
    FetchError,
    HarnessNotExecutableError,
    Interrupted,
)
from .fetch import fetch_run, run_request
from .find_program import find_program, path_with_sidecars
from .harnesses import choose_harness
from .harnesses.base import Harness, HarnessInput, Invocation
from .log import Log, log_nothing, log_to_stderr, redacted, single_line
from .mcp import McpServer, decode_servers, decode_servers_argument
from .process import HarnessProcess, run_process
from .run_item import RunItem
from .scratch import scratch_directory
from .settings import AgentSettings, decode_settings
from .signals import interrupt_on_signals, signal_name

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; ``argv`` are the arguments after its name. Returns the exit code."""
    # A server may echo what it was sent: the token must not appear in any line.
    log = redacted(log_to_stderr, os.environ.get("WARP_API_KEY", "").strip())
    try:
        command = parse_command(sys.argv[1:] if argv is None else argv)
        if isinstance(command, str):
            sys.stdout.write(command)
            return AgentExitCode.OK
        settings = decode_settings(os.environ)
        interrupt_on_signals()
        return _carry_out(command, settings, os.environ, log_nothing if settings.quiet else log)
    except AgentError as error:
        log(f"error: {error}")
        return error.exit_code
    except Interrupted as interruption:
        log(f"ended by {signal_name(interruption.signum)} before the harness was started")
        return AgentExitCode.SIGNAL_BASE + interruption.signum


def _carry_out(command: RunCommand, settings: AgentSettings, environment: Mapping[str, str], log: Log) -> int:
    """Carry out ``agent run`` and return the harness's exit code. Raises AgentError."""
    if command.unknown:
        log(f"ignored, unknown: {', '.join(single_line(name, 60) for name in command.unknown)}")
    if command.unsupported:
        log(f"ignored, not offered by this runtime: {', '.join(command.unsupported)}")
    run_id = command.task_id or settings.task_id
    if not run_id:
        raise AgentUsageError("which run? Give --task-id ID, or set TASK_ID")
    server = command.server_root_url or settings.server_root_url
    if not server:
        raise AgentUsageError("which control plane? Give --server-root-url URL, or set WARP_SERVER_ROOT_URL")
    added_servers = [decode_servers_argument(text) for text in command.mcp]
    run = fetch_run(run_request(server, run_id, settings.token), run_id, settings.fetch_budget, log)
    harness = choose_harness(command.harness, run.harness, settings.default_harness)
    title = f' "{single_line(run.title, 80)}"' if run.title else ""
    log(f"run {single_line(run.run_id, 80)}{title} · harness {harness.name}")
    if run.state == "CANCELLED":
        raise FetchError("the run has been cancelled: there is nothing to do")
    servers, incomplete = decode_servers([run.mcp_servers, *added_servers])
    _log_unused_servers(harness, servers, incomplete, log)
    if settings.workspace_root and Path.cwd() == Path("/") and Path(settings.workspace_root).is_dir():
        os.chdir(settings.workspace_root)  # the task's image or template sets no working directory
    with scratch_directory() as scratch:
        given = HarnessInput(
            run_id=run.run_id,
            title=run.title,
            prompt=_prompt(run, harness),
            scratch=scratch,
            model=command.model or ("" if run.model == "auto" else run.model),
            mcp_servers=servers,
            sandboxed=command.sandboxed,
            template=settings.command,
        )
        defaults = {"WARP_SERVER_ROOT_URL": server, "OZ_RUN_ID": run.run_id}
        process = _harness_process(harness.prepare(given), harness, scratch, defaults, environment)
        return run_process(process, settings.grace, log)


def _log_unused_servers(
    harness: Harness, servers: tuple[McpServer, ...], incomplete: tuple[str, ...], log: Log
) -> None:
    unused = incomplete if harness.takes_mcp else (*(server.name for server in servers), *incomplete)
    if unused:
        why = "they name no command or url" if harness.takes_mcp else f"{harness.name} takes none"
        log(f"MCP servers left out ({why}): {single_line(', '.join(unused))}")


def _prompt(run: RunItem, harness: Harness) -> str:
    parts = [run.base_prompt, run.prompt] if harness.natural_language else [run.prompt]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise FetchError("the run has no prompt: there is nothing to do")
    return prompt


def _harness_process(
    invocation: Invocation,
    harness: Harness,
    scratch: Path,
    defaults: Mapping[str, str],
    environment: Mapping[str, str],
) -> HarnessProcess:
    """Find the invocation's program and write its files."""
    program = find_program(invocation.argv[0], harness, environment)
    stdin = scratch / "stdin"
    try:
        for name, content in {**invocation.files, stdin.name: invocation.stdin}.items():
            (scratch / name).write_bytes(content)
    except OSError as error:
        raise HarnessNotExecutableError(f"{scratch} cannot be written: {error.strerror}") from error
    path = path_with_sidecars(environment, harness.name)
    argv = (program, *invocation.argv[1:])
    variables = {**defaults, **invocation.environment, **environment, "PATH": path}
    problem = exec_problem(argv, ((name, len(os.fsencode(value))) for name, value in variables.items()))
    if problem is not None:
        raise HarnessNotExecutableError(f"{program} cannot be started: {problem}")
    return HarnessProcess(argv=argv, environment=variables, stdin=stdin)
