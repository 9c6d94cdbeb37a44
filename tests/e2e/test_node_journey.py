"""The whole journey, with nothing left out: control plane, worker, Pod, the real agent, and back.

The Pod reaches the control plane over the node's network, at the machine's own address there.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.node.agent_image import PYTHON_AGENT_IMAGE, agent_image
from tests.cluster.node.images import busybox_layer
from tests.cluster.node_tier import NodeTier
from tests.cluster.processes import free_ports
from tests.cluster.rest import wait_for
from tests.integration.programs import BIN, ControlPlane, environment, oz, program, worker

from .ledger import Ledger
from .tasks import config_file

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def agent(node_tier: NodeTier) -> None:
    """Give the node the agent's image."""
    node_tier.load([agent_image(busybox_layer(node_tier.busybox))])


@pytest.fixture
def plane(node_tier: NodeTier, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane that Pods reach, and that gives every task the agent's image."""
    env = environment(tmp_path)
    key = oz("control-plane", "create-key", "tests", env=env).stdout.strip()
    (port,) = free_ports(1)
    where = ("--host", node_tier.gateway, "--port", str(port), "--agent-image", PYTHON_AGENT_IMAGE)
    with program([str(BIN / "oz-agent-worker"), "control-plane", *where], env) as running:
        running.wait_for("Workers connect to")
        yield ControlPlane(running, f"http://{node_tier.gateway}:{port}", key, tmp_path)


@pytest.fixture
def journey(
    agent: None, plane: ControlPlane, node_tier: NodeTier, namespace: str, tmp_path: Path
) -> Iterator[ControlPlane]:
    """The control plane, with a worker that listens."""
    with worker(plane, "--config-file", str(config_file(node_tier, namespace, tmp_path))) as running:
        yield plane
        print(running.text)


def test_a_prompt_becomes_output_and_a_result(journey: ControlPlane, ledger: Ledger) -> None:
    prompt = 'echo "hello from $OZ_WORKER_BACKEND in $PWD"; echo "run $OZ_RUN_ID"; touch proof && ls'
    began = time.monotonic()
    done = journey.oz("run", prompt, "--harness", "shell", "--follow", check=False)
    *_, last = done.stdout.splitlines()
    ledger.note("whole journey, success", "succeeded", last, time.monotonic() - began)
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = last.split()[1]
    assert last == f"run {run_id} SUCCEEDED"
    assert "hello from kubernetes in /workspace" in done.stdout
    assert f"run {run_id}" in done.stdout.splitlines()
    assert "proof" in done.stdout.splitlines()


def test_an_exit_code_comes_back(journey: ControlPlane, ledger: Ledger) -> None:
    began = time.monotonic()
    done = journey.oz("run", "echo about to fail; exit 3", "--harness", "shell", "--follow", check=False)
    *_, last = done.stdout.splitlines()
    ledger.note("whole journey, exit code 3", "failed", last, time.monotonic() - began)
    assert done.returncode == 1
    assert "about to fail" in done.stdout
    assert " FAILED: " in last
    assert "exit code 3" in last


def test_a_run_is_seen_live_and_cancelled(
    journey: ControlPlane, node_tier: NodeTier, namespace: str, ledger: Ledger
) -> None:
    prompt = "what=begins; echo it $what; sleep 300"  # the title must not hold what is waited for
    run_id = json.loads(journey.oz("run", prompt, "--harness", "shell", "-o", "json").stdout)["run_id"]
    following = [str(BIN / "oz-agent-worker"), "logs", run_id, "--follow"]
    began = time.monotonic()
    with program(following, journey.env()) as logs:
        logs.wait_for("it begins")
        ledger.note("whole journey, live", "running", f"{logs.text!r} was seen", time.monotonic() - began)
        began = time.monotonic()
        assert journey.oz("cancel", run_id, "--wait").returncode == 0
    state = json.loads(journey.oz("runs", run_id, "-o", "json").stdout)["state"]
    ledger.note("whole journey, cancelled", state.lower(), seconds=time.monotonic() - began)
    assert state == "CANCELLED"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    wait_for("the Job's deletion", lambda: node_tier.api.client().get(jobs)["items"] == [])


def test_a_prompt_that_fits_no_argument_arrives_whole(
    journey: ControlPlane, ledger: Ledger, tmp_path: Path
) -> None:
    """K12: 300 KiB, more than twice what Linux passes as one argument; the script hashes itself."""
    filler = "".join(f"# line {n} of many\n" for n in range(16_000))
    prompt = f'sha256sum < "$0"; wc -c < "$0"\n{filler}'
    assert len(prompt) > 300 * 1024
    file = tmp_path / "prompt"
    file.write_text(prompt)
    began = time.monotonic()
    done = journey.oz("run", "--file", str(file), "--harness", "shell", "--follow", check=False)
    *_, last = done.stdout.splitlines()
    ledger.note("whole journey, 300 KiB of prompt", "succeeded", last, time.monotonic() - began)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hashlib.sha256(prompt.encode()).hexdigest() in done.stdout
    assert str(len(prompt)) in done.stdout
