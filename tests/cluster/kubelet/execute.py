"""The script that really runs a Pod's containers, as processes of this host.

A container's file system is stood in for by two substitutions, made in its command,
its arguments and its variables' values: ``/workspace`` becomes a folder of its own,
``/agent/entrypoint.sh`` a given command. The process runs as the test's user.
"""

import asyncio
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.errors import ApiError

from .environment import command_line, environment
from .pod_run import PodRun, Script
from .process import ContainerProcess

__all__ = ["execute"]

# Stands for what the sidecars' root init containers copy: the command given is already there.
EXECUTED_INITS: Final = ("setup",)

RECHECK_PAUSE: Final = 0.1

CANNOT_RUN: Final = 128
"""The exit code of a container whose command cannot be started."""


def execute(entrypoint: Sequence[str | os.PathLike[str]]) -> Script:
    """Run the init container ``setup``, if there is one, then the main container.

    ``entrypoint`` is the command that replaces ``/agent/entrypoint.sh``. When the
    Pod is deleted: the preStop hook, TERM to the container's first process, and KILL
    once the Pod's grace period is over.
    """

    async def script(run: PodRun) -> None:
        await run.bind()
        root = Path(tempfile.mkdtemp(prefix="oz-pod-"))
        try:
            await _run_pod(run, _Host.create(root, entrypoint))
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return script


async def _run_pod(run: PodRun, host: "_Host") -> None:
    for init in run.pod["spec"].get("initContainers") or []:
        if init["name"] in EXECUTED_INITS:
            variables = await _environment(run, init)
            await run.start_init(init["name"])
            code, message = await _run_container(run, init, variables, host)
            await run.end_init(init["name"], code, message=message, reason=_reason(message))
            if code != 0:
                return
    main = run.container(run.main)
    variables = await _environment(run, main)
    await run.run()
    code, message = await _run_container(run, main, variables, host)
    await run.finish(code, message=message, reason=_reason(message))


def _reason(message: str) -> str:
    return "StartError" if message else ""


@dataclass(frozen=True, slots=True)
class _Host:
    """Where on this machine a Pod's paths lie."""

    workspace: Path
    entrypoint: Path

    @classmethod
    def create(cls, root: Path, entrypoint: Sequence[str | os.PathLike[str]]) -> "_Host":
        workspace = root / "workspace"
        workspace.mkdir()
        script = root / "entrypoint.sh"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(os.fspath(part) for part in entrypoint)} "$@"\n')
        script.chmod(0o755)
        return cls(workspace, script)

    def translate(self, text: str) -> str:
        """Put this machine's paths in place of the container's."""
        text = text.replace("/agent/entrypoint.sh", str(self.entrypoint))
        return re.sub(r"(?<![\w.-])/workspace(?![\w.-])", lambda _: str(self.workspace), text)

    def directory(self, container: Mapping[str, Any]) -> Path:
        """Return the working directory; one that lies outside the workspace is this machine's own."""
        return Path(self.translate(container.get("workingDir") or "/workspace"))


async def _environment(run: PodRun, container: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's variables; it waits for what they come from."""

    async def read(kind: str, name: str) -> dict[str, Any]:
        return await _existing(run, container["name"], kind, name)

    return await environment(run.pod, container, read)


async def _run_container(
    run: PodRun, container: Mapping[str, Any], own: Mapping[str, str], host: _Host
) -> tuple[int, str]:
    """Run one container to its end; return its exit code, and why where it could not start."""
    image = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(host.workspace), "HOSTNAME": run.name}
    variables = image | {name: host.translate(value) for name, value in own.items()}
    command = [host.translate(part) for part in command_line(container, own)]
    process = ContainerProcess(command, host.directory(container), variables, run.open_log(container["name"]))
    try:
        await process.start()
    except OSError as error:
        return CANNOT_RUN, f"failed to create containerd task: exec: {error}"
    try:
        return await process.wait(), ""
    except asyncio.CancelledError:
        hook = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec", {}).get("command")
        code = await process.stop(run.grace, [host.translate(part) for part in hook or ()])
        await run.finish(code)
        raise
    finally:
        await process.end()  # also when the wait for its end was cut short


async def _existing(run: PodRun, container: str, kind: str, name: str) -> dict[str, Any]:
    """Read an object; while it does not exist, the container says so and waits."""
    while True:
        try:
            found: dict[str, Any] = await run.api.get(f"/api/v1/namespaces/{run.namespace}/{kind}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
        else:
            return found
        message = f'{kind.removesuffix("s")} "{name}" not found'
        await run.wait("CreateContainerConfigError", message, container=container)
        await asyncio.sleep(RECHECK_PAUSE)
