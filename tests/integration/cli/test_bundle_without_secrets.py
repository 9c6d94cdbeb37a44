"""Bundles of evidence, as the worker keeps them and as `collect` packs them, searched for secrets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.task_spec import TaskSettings, build_task_spec
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.kubelet.pod_run import PodRun
from tests.integration.worker.backends.kubernetes.worker import running_backend
from tests.unit.protocol.frames import parsed

from .inspecting import command_with, unpacked

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

SERVERS = {
    "a": {"url": "https://mcp.test", "headers": {"Authorization": "Bearer canary-mcp-token"}},
    "b": {
        "command": "npx",
        "args": [
            "--key",
            "canary-mcp-argument",
            "--key=canary-mcp-fused",
            "--header=Cookie: sid=canary-cookie",
        ],
        "env": {"KEY": "canary-mcp-env"},
    },
    "c": {"url": "https://user:canary-password@mcp.test/sse?api_key=canary-query"},
}
ARGUMENTS = ["--api-key", "canary-argument", "--token=canary-fused", "canary-positional"]
VARIABLES = {"TOKEN": "canary-variable"}
CANARIES = (
    "canary-mcp-token", "canary-mcp-argument", "canary-mcp-env", "canary-argument", "canary-fused",
    "canary-positional", "canary-mcp-fused", "canary-cookie", "canary-password", "canary-query",
    "canary-variable",
)  # fmt: skip
#: What the task says of its secrets, wherever it can.
WORDS = f"got {' '.join(CANARIES)} and {json.dumps(SERVERS, separators=(',', ':'))}"


async def tells_all(run: PodRun) -> None:
    """Write every secret to the log and into the termination message, and have an event quote them."""
    await run.run()
    await run.event("Unhealthy", f"Liveness probe failed: {WORDS}")
    run.write(f"{WORDS}\n")
    await run.finish(3, message=WORDS)


@pytest.mark.parametrize("secret", [False, True], ids=["in the Job", "in a Secret"])
async def test_no_bundle_holds_a_secret_of_the_assignment(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path, secret: bool
) -> None:
    config = {"mcp_servers": SERVERS, "model_id": "model-1"}
    frame: dict[str, Any] = {
        "task": {"id": "run-1", "agent_config_snapshot": config},
        "additional_oz_args": ARGUMENTS,
        "env_vars": {} if secret else VARIABLES,
    }
    spec = build_task_spec(parsed(**frame), TaskSettings(server_root_url="https://oz.test"))
    user = "admin" if secret else "worker"
    hidden_canaries = CANARIES if not secret else CANARIES[:-1]
    async with (
        kubelet(behaviours.always(tells_all)),
        running_backend(
            api_tier.kubeconfig(user),
            namespace,
            evidence_dir=str(tmp_path / "kept"),
            task_env_secret=secret,
        ) as backend,
    ):
        outcome = await (await backend.launch(spec, NoOutput())).wait()
        assert outcome.reason is FailureReason.CONTAINER_EXIT
        file = tmp_path / "collected.tar.gz"
        done = await command_with(api_tier.kubeconfig(user, namespace))("collect", "run-1", "-f", str(file))
        assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "kept").iterdir()
    for bundle in (kept, file):
        files = unpacked(bundle.read_bytes())
        everything = b"".join(files.values()).decode()
        assert [canary for canary in hidden_canaries if canary in everything] == []
        job = json.loads(next(content for name, content in files.items() if name.endswith("/job.json")))
        (task,) = job["spec"]["template"]["spec"]["containers"]
        at = task["args"].index("--mcp")
        assert task["args"][at - 2 : at + 2] == ["--model", "model-1", "--mcp", "***"]
        at = task["args"].index("--api-key")
        assert task["args"][at : at + 4] == ["--api-key", "***", "--token=***", "***"]
        (log,) = [content for name, content in files.items() if name.endswith("/task.log")]
        assert b"got *** *** ***" in log
