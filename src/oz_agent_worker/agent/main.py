"""``oz-agent``: fetch the run, choose the harness, run it, end as it ended."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from oz_agent_worker import __version__

from .arguments import HelpCommand, RunCommand, VersionCommand, parse_command
from .errors import AgentError, ExitCode, FetchError, HarnessNotExecutableError, Interrupted, UsageError
from .fetch import fetch_run, prepare
from .find_program import find_program, with_sidecars
from .harnesses import choose_harness
from .harnesses.base import Harness, Invocation, Task
from .help_text import PROGRAM_HELP, run_help
from .mcp import McpServer, decode_servers, decode_servers_argument
from .process import Process, run_process
from .progress import Say, hiding, plain, say, silent
from .run import Run
from .settings import Settings, decode_settings
from .signals import interrupt_on_signals, signal_name

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; ``argv`` are the arguments after its name. Returns the exit code."""
    # A server may echo what it was sent, and the token stays out of every line.
    tell = hiding(os.environ.get("WARP_API_KEY", "").strip(), say)
    try:
        command = parse_command(sys.argv[1:] if argv is None else argv)
        if isinstance(command, HelpCommand):
            sys.stdout.write(run_help() if command.of_run else PROGRAM_HELP)
            return ExitCode.OK
        if isinstance(command, VersionCommand):
            print(f"oz-agent {__version__}")
            return ExitCode.OK
        settings = decode_settings(os.environ)
        interrupt_on_signals()
        return carry_out(command, settings, os.environ, silent if settings.quiet else tell)
    except AgentError as error:
        tell(f"error: {error}")
        return error.exit_code
    except Interrupted as interruption:
        tell(f"ended by {signal_name(interruption.signum)} before the harness was started")
        return ExitCode.SIGNAL_BASE + interruption.signum


def carry_out(command: RunCommand, settings: Settings, environment: Mapping[str, str], tell: Say) -> int:
    """Carry out ``agent run`` and return the harness's exit code. Raises AgentError."""
    _tell_ignored(command, tell)
    server, run_id = _server_and_run(command, settings)
    added_servers = [decode_servers_argument(text) for text in command.mcp]
    run = fetch_run(prepare(server, run_id, settings.token), run_id, settings.fetch_budget, tell)
    harness = choose_harness(command.harness, run.harness, settings.default_harness)
    title = f' "{plain(run.title, 80)}"' if run.title else ""
    tell(f"run {plain(run.run_id, 80)}{title} · harness {harness.name}")
    if run.state == "CANCELLED":
        raise FetchError("the run has been cancelled: there is nothing to do")
    servers, left_out = decode_servers([run.mcp_servers, *added_servers])
    _tell_servers(harness, servers, left_out, tell)
    _enter_workspace(settings.workspace_root)
    with _scratch_directory() as scratch:
        task = Task(
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
        process = _lay_out(harness.prepare(task), harness, scratch, defaults, environment)
        return run_process(process, settings.grace, tell)


def _server_and_run(command: RunCommand, settings: Settings) -> tuple[str, str]:
    run_id = command.task_id or settings.task_id
    if not run_id:
        raise UsageError("which run? Give --task-id ID, or set TASK_ID")
    server = command.server_root_url or settings.server_root_url
    if not server:
        raise UsageError("which control plane? Give --server-root-url URL, or set WARP_SERVER_ROOT_URL")
    return server, run_id


def _tell_ignored(command: RunCommand, tell: Say) -> None:
    if command.unknown:
        tell(f"ignored, unknown: {', '.join(plain(name, 60) for name in command.unknown)}")
    # The other options without effect change nothing about the result; these would.
    missing = [("--skill", command.skill), ("--profile", command.profile)]
    missing.append(("--bedrock-inference-role", command.bedrock_inference_role))
    if names := [name for name, value in missing if value]:
        tell(f"ignored, not offered by this runtime: {', '.join(names)}")


def _tell_servers(
    harness: Harness, servers: tuple[McpServer, ...], left_out: tuple[str, ...], tell: Say
) -> None:
    unused = left_out if harness.takes_mcp else (*(server.name for server in servers), *left_out)
    if unused:
        why = "they name no command or url" if harness.takes_mcp else f"{harness.name} takes none"
        tell(f"MCP servers left out ({why}): {plain(', '.join(unused))}")


def _prompt(run: Run, harness: Harness) -> str:
    parts = [run.base_prompt, run.prompt] if harness.speaks else [run.prompt]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise FetchError("the run has no prompt: there is nothing to do")
    return prompt


def _enter_workspace(root: str) -> None:
    """Go to the workspace, where nobody chose a working directory."""
    if root and Path.cwd() == Path("/") and Path(root).is_dir():
        os.chdir(root)


@contextlib.contextmanager
def _scratch_directory() -> Iterator[Path]:
    """A directory that only this user can read; it goes when the harness has ended."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix="oz-agent-"))
    except OSError as error:
        raise HarnessNotExecutableError(f"no temporary directory can be made: {error.strerror}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lay_out(
    invocation: Invocation,
    harness: Harness,
    scratch: Path,
    defaults: Mapping[str, str],
    environment: Mapping[str, str],
) -> Process:
    """Write the invocation's files and make it a process that can be started."""
    program = find_program(invocation.argv[0], harness, environment)
    stdin = scratch / "stdin"
    try:
        for name, content in {**invocation.files, stdin.name: invocation.stdin}.items():
            (scratch / name).write_bytes(content)
    except OSError as error:
        raise HarnessNotExecutableError(f"{scratch} cannot be written: {error.strerror}") from error
    return Process(
        argv=(program, *invocation.argv[1:]),
        environment={
            **defaults,
            **invocation.environment,
            **environment,
            "PATH": with_sidecars(environment, harness.name),
        },
        stdin=stdin,
    )
