"""Harnesses, with programs that record how they were called."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.timeouts import HANG_TIMEOUT

from .conftest import StartAgent
from .control_plane import ControlPlane

PROMPT = "Wörk ✓ " * 131072  # above 1 MiB
SERVERS = {"files": {"command": "npx", "args": ["srv"], "env": {"KEY": "k"}}}
RECORDER = f"""#!{sys.executable}
import json, os, sys
record = {{
    "argv": sys.argv[1:],
    "stdin": sys.stdin.buffer.read().decode(),
    "environment": dict(os.environ),
    "files": {{}},
}}
for text in (*sys.argv[1:], *os.environ.values()):
    if os.path.isfile(text) and "oz-agent-" in text:
        record["files"][os.path.basename(text)] = open(text).read()
json.dump(record, open({{record!r}}, "w"))
print("worked")
"""


def record_calls(programs: Path, name: str) -> Path:
    record = programs / f"{name}.json"
    program = programs / name
    program.write_text(RECORDER.replace("{record!r}", repr(str(record))))
    program.chmod(0o755)
    return record


def call(start_agent: StartAgent, record: Path, *arguments: str, **variables: str) -> Any:
    agent = start_agent(*arguments, **variables)
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (0, b"worked\n"), err
    return json.loads(record.read_text())


@pytest.mark.parametrize(
    ("harness", "argv"),
    [
        (
            "claude",
            [
                "-p",
                "--output-format",
                "stream-json",
                "--verbose",
                "--model",
                "m",
                "--dangerously-skip-permissions",
            ],
        ),
        (
            "codex",
            [
                "exec",
                "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox",
                "--model",
                "m",
                "-",
            ],
        ),
        ("gemini", ["--model", "m", "--approval-mode", "yolo"]),
        ("opencode", ["run", "--model", "m"]),
    ],
)
def test_the_whole_prompt_arrives(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path, harness: str, argv: list[str]
) -> None:
    control_plane.offer(PROMPT, harness=harness, base_prompt="Be brief.", model_id="m")
    record = call(start_agent, record_calls(programs, harness))
    assert record["argv"] == argv
    assert record["stdin"] == "Be brief.\n\n" + PROMPT


def test_claude_gets_servers_of_the_run_and_of_the_arguments(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path
) -> None:
    control_plane.offer("p", harness="claude", mcp_servers=SERVERS)
    added = json.dumps({"web": {"url": "https://h"}})
    record = call(start_agent, record_calls(programs, "claude"), "--mcp", added)
    assert record["environment"]["IS_SANDBOX"] == "1"
    assert set(json.loads(record["files"]["mcp.json"])["mcpServers"]) == {"files", "web"}


def test_opencode_finds_its_configuration(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path
) -> None:
    control_plane.offer("p", harness="opencode", mcp_servers=SERVERS)
    record = call(start_agent, record_calls(programs, "opencode"))
    assert json.loads(record["files"]["opencode.json"])["permission"] == "allow"


def test_the_operator_s_own_variables_win(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path
) -> None:
    control_plane.offer("p", harness="claude")
    record = call(start_agent, record_calls(programs, "claude"), IS_SANDBOX="0")
    assert record["environment"]["IS_SANDBOX"] == "0"


def test_the_harness_of_the_command_line_wins(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path
) -> None:
    control_plane.offer("p", harness="claude")
    assert call(start_agent, record_calls(programs, "codex"), "--harness", "codex")["argv"][0] == "exec"


@pytest.mark.parametrize("template", ["mine {run_id} {prompt_file}", "mine {run_id}"])
def test_the_operator_s_own_command(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path, template: str
) -> None:
    control_plane.offer(PROMPT)
    record = call(
        start_agent,
        record_calls(programs, "mine"),
        OZ_AGENT_DEFAULT_HARNESS="command",
        OZ_AGENT_COMMAND=template,
    )
    assert record["argv"][0] == "0198c0de-run"
    assert PROMPT in (record["stdin"], record["files"].get("prompt"))


def test_servers_that_cannot_be_used_are_named(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("true", mcp_servers=SERVERS)
    _, err = start_agent().communicate(timeout=HANG_TIMEOUT)
    assert b"MCP servers left out (shell takes none): files\n" in err


@pytest.mark.parametrize(
    ("harness", "variables", "servers", "said"),
    [
        ("codex", {}, {"big": {"url": "x" * 140_000}}, b"codex cannot be started: the value of -c has "),
        ("command", {"OZ_AGENT_COMMAND": "codex {prompt}"}, {}, b"does not fit into one argument (128 KiB"),
    ],
)
def test_what_a_harness_cannot_be_given_is_named(
    start_agent: StartAgent,
    control_plane: ControlPlane,
    programs: Path,
    harness: str,
    variables: dict[str, str],
    servers: dict[str, Any],
    said: bytes,
) -> None:
    """K12: by its flag, and without its value."""
    record_calls(programs, "codex")
    control_plane.offer(PROMPT, harness=harness, mcp_servers=servers)
    _, err = start_agent(**variables).communicate(timeout=HANG_TIMEOUT)
    assert said in err
    assert b"xxx" not in err
