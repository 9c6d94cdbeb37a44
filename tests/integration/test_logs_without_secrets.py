"""A whole run at debug level, every program's log searched for every secret that was in it.

Control plane and worker are real processes; the agent is the real one. The workload token
is made by the control plane for each task: the agent writes it down, so that it is searched
for by its value.
"""

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import behaviours, execute
from tests.conftest import KubeletFactory
from tests.timeouts import HANG_TIMEOUT

from .programs import BIN, ControlPlane, Program, beside, control_plane, worker

OPERATORS = {"PLAIN": "canary-operator-plain", "MULTILINE": "canary-operator-first\ncanary-operator-second"}
MCP_KEY = "canary-mcp-key"
DEBUG = ("--log-level", "debug")
FLAGS = (*DEBUG, *(part for name, value in OPERATORS.items() for part in ("-e", f"{name}={value}")))
PROMPT = (
    'printf %s "$WARP_API_KEY" > {token}; test -n "$PLAIN" && test -n "$MULTILINE" || exit 1;'
    " echo canary-output; sleep {pause}; exit {code}"
)
#: What git prints where it cannot reach a server whose address has a token in it.
GIT_ERROR = "fatal: unable to access 'https://x-access-token:canary-token@git.test/': no such host"
SETUP = f'echo "{GIT_ERROR}" >&2; exit 128'
TERMINAL = {"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"}


def submit(plane: ControlPlane, prompt: str) -> str:
    """Create a run with an MCP server that has a key."""
    servers = {"files": {"url": "https://mcp.test", "headers": {"Authorization": MCP_KEY}}}
    config = {"harness": {"type": "shell"}, "mcp_servers": servers, "base_prompt": "canary-base-prompt"}
    body = {"prompt": prompt, "title": "canary-title", "config": config}
    request = urllib.request.Request(
        f"{plane.url}/api/v1/agent/runs",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {plane.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        created: dict[str, Any] = json.load(answer)
    return str(created["run_id"])


def states(plane: ControlPlane) -> dict[str, str]:
    return {run["run_id"]: run["state"] for run in plane.runs()}


def wait_for(plane: ControlPlane, run_id: str, wanted: set[str]) -> None:
    deadline = time.monotonic() + HANG_TIMEOUT
    while states(plane)[run_id] not in wanted:
        assert time.monotonic() < deadline, states(plane)
        time.sleep(0.2)


def journey(plane: ControlPlane, folder: Path) -> list[str]:
    """A run that succeeds, one that fails, one that is cancelled; return their workload tokens."""
    tokens = [folder / f"token-{name}" for name in ("good", "bad", "cancelled")]
    good = submit(plane, PROMPT.format(token=tokens[0], pause=0, code=0))
    bad = submit(plane, PROMPT.format(token=tokens[1], pause=0, code=42))
    wait_for(plane, good, TERMINAL)
    wait_for(plane, bad, TERMINAL)
    long = submit(plane, PROMPT.format(token=tokens[2], pause=600, code=0))
    wait_for(plane, long, {"INPROGRESS"})
    deadline = time.monotonic() + HANG_TIMEOUT
    while not tokens[2].exists() or not tokens[2].read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    plane.oz("cancel", long, "--wait", check=False)
    found = [token.read_text() for token in tokens]
    assert states(plane)[good] == "SUCCEEDED"
    assert states(plane)[long] == "CANCELLED"
    assert all(token.startswith("ozw_") for token in found)
    return found


def search(programs: list[Program], plane: ControlPlane, tokens: list[str], folder: Path) -> None:
    """No secret and no payload is in what was printed, whole or in part."""
    secrets = [plane.key, *tokens]
    assert "sent task_claimed" in programs[0].text, "this is no log of level debug"
    for running in programs:
        assert len(running.lines) > 5
        printed = running.text.replace(str(folder), "")
        assert "canary" not in printed
        for secret in secrets:
            assert secret not in printed
            assert secret[:16] not in printed


def as_objects(log: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.lines]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_direct_backend(tmp_path: Path, log_format: str) -> None:
    config = tmp_path / "worker.yaml"
    direct = {"workspace_root": str(tmp_path / "workspaces"), "oz_path": str(BIN / "oz-agent")}
    config.write_text(json.dumps({"backend": {"direct": direct}}))
    more = ["--config-file", str(config), "--log-format", log_format]
    with control_plane(tmp_path, *DEBUG) as plane, worker(plane, *FLAGS, *more) as log:
        tokens = journey(plane, tmp_path)
    search([log, plane.program], plane, tokens, tmp_path)
    if log_format == "json":
        about = [line for line in as_objects(log) if line["message"].startswith("Task ")]
        assert {line["task"] for line in about} == set(states_of(log))
        assert all(line["execution"] for line in about)
        sent = {line["message"].split()[3] for line in about if " sent " in line["message"]}
        assert sent == {"task_claimed", "task_log", "task_completed", "task_failed"}


def states_of(log: Program) -> set[str]:
    """The tasks that were assigned, as the text of the log has them."""
    fields = (line["message"].split() for line in as_objects(log))
    return {task[1].partition("/")[0] for task in fields if task[0] == "Task" and task[-1] == "assigned"}


def fail_in_setup(plane: ControlPlane, log: Program, folder: Path) -> str:
    """A run whose setup command fails and prints a token; return the message of its report."""
    run_id = submit(plane, "true")
    wait_for(plane, run_id, TERMINAL)
    line = log.wait_for("failed (setup_command)")
    assert run_id in line
    assert "exit code 128" in line
    search([log, plane.program], plane, [], folder)
    [run] = plane.runs()
    return str(run["status_message"]["message"])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_setup_command_that_fails_on_this_host(tmp_path: Path, log_format: str) -> None:
    config = tmp_path / "worker.yaml"
    direct = {
        "workspace_root": str(tmp_path / "workspaces"),
        "oz_path": str(BIN / "oz-agent"),
        "setup_command": SETUP,
        "teardown_command": SETUP,
    }
    config.write_text(json.dumps({"backend": {"direct": direct}}))
    more = ["--config-file", str(config), "--log-format", log_format]
    with control_plane(tmp_path, *DEBUG) as plane, worker(plane, *FLAGS, *more) as log:
        message = fail_in_setup(plane, log, tmp_path)
        assert GIT_ERROR in plane.oz("logs", plane.runs()[0]["run_id"]).stdout
    assert message == "The setup command ended with exit code 128"


@pytest.mark.cluster
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_setup_command_that_fails_in_a_cluster(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path, log_format: str
) -> None:
    config, evidence = tmp_path / "worker.yaml", tmp_path / "evidence"
    section = {
        "namespace": namespace,
        "kubeconfig": str(api_tier.kubeconfig("worker", namespace)),
        "setup_command": SETUP,
        "evidence_dir": str(evidence),
    }
    config.write_text(json.dumps({"backend": {"kubernetes": section}}))
    more = ["--config-file", str(config), "--log-format", log_format]
    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path, *DEBUG)) as plane,
        beside(worker(plane, *FLAGS, *more)) as log,
    ):
        message = await asyncio.to_thread(fail_in_setup, plane, log, tmp_path)
    assert message.startswith("Container `setup` ended with exit code 128: ")
    assert message.endswith(f"; in its own words: {GIT_ERROR}"), "the task's owner reads why"
    assert "is kept in" in log.text
    assert len(list(evidence.iterdir())) == 1


@pytest.mark.cluster
@pytest.mark.parametrize("secret", [False, True], ids=["in the Job", "in a Secret"])
async def test_the_kubernetes_backend(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path, secret: bool
) -> None:
    config = tmp_path / "worker.yaml"
    user = "admin" if secret else "worker"
    section = {
        "namespace": namespace,
        "kubeconfig": str(api_tier.kubeconfig(user, namespace)),
        "task_env_secret": secret,
    }
    config.write_text(json.dumps({"backend": {"kubernetes": section}}))
    arguments = ["--config-file", str(config), "--log-format", "json"]
    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path, *DEBUG)) as plane,
        beside(worker(plane, *FLAGS, *arguments)) as log,
    ):
        tokens = await asyncio.to_thread(journey, plane, tmp_path)
    search([log, plane.program], plane, tokens, tmp_path)
    ended = [line for line in as_objects(log) if line["message"].endswith((" succeeded", " cancelled"))]
    assert len(ended) >= 2
    assert all(line["job"].startswith("oz-") for line in ended)
