"""Workers that are killed, as processes, with a control plane that wants every task to end once."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours, execute
from tests.integration.programs import BIN, ControlPlane, beside, control_plane, worker
from tests.integration.worker.backends.harness import Scratch, eventually

from .test_env_secret import listed

pytestmark = pytest.mark.cluster

TASKS = 6


@pytest.mark.parametrize("kills", [1, 3])
async def test_a_worker_that_is_killed_loses_no_task_and_starts_none_twice(
    api_tier: ApiTier, namespace: str, kubelet: Callable[..., Kubelet], tmp_path: Path, kills: int
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    scratch = Scratch(folder)
    prompt = scratch.script('note started "$OZ_RUN_ID"; hold go; echo done')
    config = tmp_path / "worker.yaml"
    section = {"namespace": namespace, "kubeconfig": str(api_tier.kubeconfig("worker", namespace))}
    config.write_text(json.dumps({"backend": {"kubernetes": section}}))

    def running(plane: ControlPlane, state: str) -> bool:
        return [run["state"] for run in plane.runs()] == [state] * TASKS

    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path)) as plane,
    ):
        submitted = [asyncio.to_thread(plane.oz, "run", prompt, "--harness", "shell") for _ in range(TASKS)]
        await asyncio.gather(*submitted)
        for _ in range(kills):
            async with beside(worker(plane, "--config-file", str(config))) as doomed:
                await eventually(lambda: len(scratch.lines("started")) == TASKS)
                doomed.process.kill()
        async with beside(worker(plane, "--config-file", str(config))) as last:
            scratch.note("go")
            await eventually(lambda: asyncio.to_thread(running, plane, "SUCCEEDED"))
            await eventually(lambda: listed(api_tier.client(), namespace, "jobs") == [])
        runs: list[dict[str, Any]] = await asyncio.to_thread(plane.runs)
    assert last.text.count(" adopted") == TASKS
    assert sorted(scratch.lines("started")) == sorted(run["run_id"] for run in runs)
