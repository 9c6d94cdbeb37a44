"""Finds objects, files and processes that are still there after every run has ended."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.cluster.async_rest import AsyncRestClient

__all__ = ["remaining_files", "remaining_objects", "remaining_processes", "unexpected_objects"]

_TASK_ID: Final = "oz.warp.dev/task-id"
_PERSISTENT: Final = re.compile(r"identity|slot-[0-9]+")


async def remaining_objects(api: AsyncRestClient, namespace: str) -> list[str]:
    """List the objects of the worker's namespace that should have been deleted."""
    jobs = await api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    pods = await api.get(f"/api/v1/namespaces/{namespace}/pods")
    secrets = await api.get(f"/api/v1/namespaces/{namespace}/secrets")
    return unexpected_objects(jobs["items"], pods["items"], secrets["items"])


def unexpected_objects(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], secrets: Iterable[Mapping[str, Any]]
) -> list[str]:
    """List the Jobs, Pods and Secrets that should have been deleted. Pure.

    A Job that failed by itself stays for its TTL, with its Pod and its Secret, so that somebody
    can look into it; and so does a preflight's that has ended, whose worker was killed.
    """
    found = []
    job_uids = set()
    for job in jobs:
        metadata = job["metadata"]
        job_uids.add(metadata["uid"])
        end = _end_of(job)
        is_task = _TASK_ID in (metadata.get("annotations") or {})
        kept = end == "Failed" or (end is not None and not is_task)
        if not kept or "deletionTimestamp" in metadata:
            found.append(f"Job {metadata['name']}: {end or 'active'}")
    for kind, objects in (("Pod", pods), ("Secret", secrets)):
        for item in objects:
            owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()}
            if not owners & job_uids:
                found.append(f"{kind} {item['metadata']['name']}: its Job is gone")
    return found


def _end_of(job: Mapping[str, Any]) -> str | None:
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None


def remaining_files(workspaces: Path) -> list[str]:
    """List workspaces and execution records that the direct backend left below its workspace root.

    A journal's identity and its slots are persistent.
    """
    if not workspaces.exists():
        return []
    files = [
        path for path in workspaces.rglob("*") if path.is_file() and not _PERSISTENT.fullmatch(path.name)
    ]
    folders = [path for path in workspaces.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [
        f"left in the workspace root: {path.relative_to(workspaces)}" for path in sorted([*files, *folders])
    ]


def remaining_processes(folder: Path) -> list[str]:
    """List the programs and agents of a run that are still running, found by its folder."""
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
