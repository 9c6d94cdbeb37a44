"""The commands that Helm prints after an install do what the notes say."""

import os
import subprocess

import pytest

from oz_agent_worker.worker.backends.kubernetes.manifest.naming import id_hash
from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm
from tests.chart.provisioned import provisioned_programs
from tests.cluster.rest import RestClient

pytestmark = pytest.mark.cluster

KEY = "0123456789abcdef0123456789abcdef"
# These ask a Pod that runs, and no node runs one here.
NEEDS_A_POD = ("exec", "logs", "port-forward", "rollout status")


def shell(helm: Helm, *lines: str) -> str:
    """Run lines as a user pastes them, with the kubectl that came with Helm."""
    folder = provisioned_programs().kubectl.parent
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "KUBECONFIG": str(helm.kubeconfig),
        "WARP_API_KEY": KEY,
    }
    command = ["/bin/sh", "-euc", "\n".join(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(output: str) -> list[str]:
    """The commands for kubectl that need no Pod."""
    lines = [line.strip() for line in output.splitlines()]
    return [
        line
        for line in lines
        if line.startswith("kubectl") and not any(f" {word} " in line for word in NEEDS_A_POD)
    ]


def test_the_workers_commands(helm: Helm, admin: RestClient, namespace: str) -> None:
    job = {
        "metadata": {"name": "task", "labels": {"oz-worker-hash": id_hash("w")}},
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "task", "image": "busybox"}]}
            }
        },
    }
    admin.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    values = ("--set=worker.workerId=w", "--set=image.tag=v1")
    output = helm.run("install", "rel", WORKER, "--namespace", namespace, *values)
    listing, secret, restart, delete = commands(output)
    assert shell(helm, listing).splitlines()[1].startswith("task ")
    assert shell(helm, secret) == "secret/oz-agent-worker created\n"
    assert "restarted" in shell(helm, restart)
    assert "deleted" in shell(helm, delete)


def test_the_control_planes_commands(helm: Helm, namespace: str) -> None:
    output = helm.run("install", "rel", CONTROL_PLANE, "--namespace", namespace, "--set=image.tag=v1")
    secret, delete = commands(output)
    shell(helm, secret.replace("$(openssl rand -hex 32)", KEY))
    exports = [line.strip() for line in output.splitlines() if line.startswith("  export")]
    printed = shell(helm, *exports, 'printf "%s %s" "$WARP_SERVER_ROOT_URL" "$WARP_API_KEY"')
    assert printed == f"http://127.0.0.1:8080 {KEY}"
    assert "deleted" in shell(helm, f"{delete} --wait=false")
