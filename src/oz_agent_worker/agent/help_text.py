"""The texts of ``--help``."""

from typing import Final

from oz_agent_worker.contract import AGENT_FLAGS, AgentFlag

from .harnesses import HARNESSES

__all__ = ["PROGRAM_HELP", "run_help"]

PROGRAM_HELP: Final = """\
oz-agent: carries out one agent run, inside the task that a worker started for it.

Usage:
  oz-agent agent run --task-id ID [options]    carry out a run
  oz-agent agent run --help                    its options, variables and exit codes
  oz-agent --version

A worker starts it; by hand, with a run's ID and its token:
  WARP_API_KEY=… oz-agent agent run --task-id ID --server-root-url http://127.0.0.1:8080
"""

_RUN_HELP: Final = """\
Usage: oz-agent agent run --task-id ID [options]

Fetches the run from the control plane and hands its prompt to a harness, the program
that does the work. stdout carries the harness's output only; the agent's own lines go to
stderr and begin with "oz-agent: ". The exit code is the harness's.

Options:
{options}
  --help                             this text

Accepted as the worker passes them, without effect in this runtime (it has no built-in
agent, sessions or snapshots; --idle-on-complete waits for nothing, since follow-ups
start a run of their own). Unknown options are named once and ignored.
{inert}

Harnesses:
{harnesses}
A coding agent gets the prompt in its headless mode; with --sandboxed it acts without
asking. Programs are looked for in /mnt/NAME-cli-sidecar, then on PATH.
--harness chooses one, else the run; where both are absent or "oz",
OZ_AGENT_DEFAULT_HARNESS, else shell.

Environment:
  WARP_API_KEY              the run's token; sent to the control plane only
  WARP_SERVER_ROOT_URL      the control plane, without --server-root-url
  TASK_ID                   the run, without --task-id
  OZ_AGENT_DEFAULT_HARNESS  harness for runs that name none
  OZ_AGENT_COMMAND          a JSON array or quoted words, with {{prompt}}, {{prompt_file}},
                            {{run_id}}, {{model}}, {{title}}; without {{prompt}} and
                            {{prompt_file}} the prompt is on stdin:
                              OZ_AGENT_COMMAND='my-agent --file {{prompt_file}}'
  OZ_AGENT_GRACE_SECONDS    from SIGTERM to SIGKILL for the harness (default 20)
  OZ_AGENT_FETCH_SECONDS    how long to try an unreachable control plane (default 60)
  OZ_AGENT_QUIET=1          no progress lines
  OZ_WORKSPACE_ROOT         the working directory if the agent starts in /

Exit codes:
  the harness's own, or 128 + N when signal N ended it
  2    the command line, an OZ_AGENT_ variable or the harness's name is wrong
  125  the run could not be fetched
  126  the harness's program cannot be started
  127  the harness's program was not found
"""


def run_help() -> str:
    """The help of ``agent run``."""
    return _RUN_HELP.format(
        options="\n".join(_line(flag) for flag in AGENT_FLAGS if flag.support == "used"),
        inert="\n".join(_line(flag) for flag in AGENT_FLAGS if flag.support != "used"),
        harnesses="\n".join(f"  {name:<10} {harness.about}" for name, harness in HARNESSES.items()),
    )


def _line(flag: AgentFlag) -> str:
    return f"  {f'{flag.name} {flag.metavar}'.strip():<34} {flag.help}"
