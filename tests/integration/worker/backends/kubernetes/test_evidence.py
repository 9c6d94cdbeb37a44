"""Evidence of failed tasks, kept by the backend itself."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours
from tests.integration.worker.backends.harness import eventually

from .test_cluster import jobs_in
from .worker import running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]


def kept(folder: Path) -> dict[str, bytes]:
    """The files of the one bundle in a folder, without their own folder's name."""
    (path,) = folder.iterdir()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as archive:
        contents = {entry.name: archive.extractfile(entry) for entry in archive}
    return {name.split("/", 1)[1]: content.read() for name, content in contents.items() if content}


async def test_the_evidence_of_a_job_that_is_deleted_is_kept_before(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.image_pull_back_off("not found"))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, evidence_dir=str(tmp_path / "evidence")
        ) as backend,
    ):
        execution = await backend.launch(task("unpullable"), NoOutput())
        outcome = await execution.wait()
        assert outcome.reason is FailureReason.IMAGE_PULL
        assert jobs_in(api_tier.client(), namespace) == []
    files = kept(tmp_path / "evidence")
    assert json.loads(files["outcome.json"])["reason"] == "image_pull"
    assert b"waits: the image of container `task` cannot be pulled" in files["explanation.txt"]
    assert b"swordfish" not in b"".join(files.values())


async def test_the_evidence_of_a_task_that_fails_has_its_output(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> None:
    script = behaviours.exit_with(3, output="what went wrong\n")
    async with (
        kubelet(behaviours.always(script)),
        running_backend(api_tier.kubeconfig("worker"), namespace, evidence_dir=str(tmp_path)) as backend,
    ):
        execution = await backend.launch(task("wrong"), NoOutput())
        assert (await execution.wait()).result is TaskResult.FAILED
    files = kept(tmp_path)
    (log,) = [content for name, content in files.items() if name.startswith("logs/")]
    assert log.endswith(b" what went wrong\n")
    assert "not-read.txt" not in files


async def test_a_task_that_succeeds_or_is_cancelled_leaves_no_evidence(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> None:
    scripts = {"well": behaviours.succeed(), "long": behaviours.runs_until_cancelled()}
    async with (
        kubelet(behaviours.by_annotation("oz.warp.dev/task-id", scripts, behaviours.succeed())) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, evidence_dir=str(tmp_path)) as backend,
    ):
        well = await backend.launch(task("well"), NoOutput())
        long = await backend.launch(task("long"), NoOutput())
        await eventually(lambda: len(node.started) == 2)
        await long.stop("enough")
        assert (await well.wait()).result is TaskResult.SUCCEEDED
        assert (await long.wait()).result is TaskResult.CANCELLED
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_changes_no_outcome(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    async with (
        kubelet(behaviours.always(behaviours.exit_with(4))),
        running_backend(api_tier.kubeconfig("worker"), namespace, evidence_dir=str(in_the_way)) as backend,
    ):
        execution = await backend.launch(task("wrong"), NoOutput())
        assert (await execution.wait()).exit_code == 4
