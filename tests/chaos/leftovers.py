"""What stays behind once every run has ended: in the cluster, and on this host."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.cluster.async_rest import AsyncRestClient

__all__ = ["cluster_leftovers", "folder_leftovers", "judge_objects", "marked_processes"]

_TASK_ID: Final = "oz.warp.dev/task-id"
_LASTING: Final = re.compile(r"identity|slot-[0-9]+")


async def cluster_leftovers(api: AsyncRestClient, namespace: str) -> list[str]:
    """Say what the worker's namespace holds and should not."""
    jobs = await api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    pods = await api.get(f"/api/v1/namespaces/{namespace}/pods")
    secrets = await api.get(f"/api/v1/namespaces/{namespace}/secrets")
    return judge_objects(jobs["items"], pods["items"], secrets["items"])


def judge_objects(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], secrets: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Say what should not be there. Pure.

    A Job that failed by itself stays for its TTL, with its Pod and its Secret, so that somebody
    can look into it; and so does a preflight's that has ended, whose worker was killed.
    """
    found = []
    standing = set()
    for job in jobs:
        metadata = job["metadata"]
        standing.add(metadata["uid"])
        end = _end_of(job)
        is_task = _TASK_ID in (metadata.get("annotations") or {})
        kept = end == "Failed" or (end is not None and not is_task)
        if not kept or "deletionTimestamp" in metadata:
            found.append(f"Job {metadata['name']}: {end or 'active'}")
    for kind, objects in (("Pod", pods), ("Secret", secrets)):
        for item in objects:
            owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()}
            if not owners & standing:
                found.append(f"{kind} {item['metadata']['name']}: its Job is gone")
    return found


def _end_of(job: Mapping[str, Any]) -> str | None:
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None


def folder_leftovers(workspaces: Path) -> list[str]:
    """Say what the direct backend left below its workspace root: workspaces, and records of executions.

    A journal's name and its slots stay for good.
    """
    if not workspaces.exists():
        return []
    files = [path for path in workspaces.rglob("*") if path.is_file() and not _LASTING.fullmatch(path.name)]
    folders = [path for path in workspaces.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [
        f"left in the workspace root: {path.relative_to(workspaces)}" for path in sorted([*files, *folders])
    ]


def marked_processes(folder: Path) -> list[str]:
    """Name the programs and agents of a run that still run, by its folder."""
    state, record = (os.fsencode(path) for path in (folder / "state", folder / "ran.jsonl"))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        is_agent = record in command and b"tests.chaos.agent" in command
        if is_agent or b"XDG_STATE_HOME=" + state in environment.split(b"\0"):
            text = command.replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(f"process {entry.name}: {text[:100]}")
    return found
