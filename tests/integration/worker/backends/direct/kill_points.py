"""A worker of one task that kills itself at a chosen step: ``python -m … FOLDER STEP``.

It plays a control plane too, the ledger of which is files in ``FOLDER``: an assignment is
sent again until the execution is claimed, and a report is delivered once it is in
``reports``. Without a step it goes through to the end.
"""

import asyncio
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from oz_agent_worker.worker.backends.base import AdoptableExecution, NoOutput
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.backends.direct.execution import HostExecution
from oz_agent_worker.worker.config.schema import DirectConfig
from tests.integration.worker.backends.harness import WORKER_ENVIRON, Scratch, task_spec

__all__ = ["RECOVERY_STEPS", "STEPS", "KillPoint", "main"]

BACKEND: Final = "oz_agent_worker.worker.backends.direct"
COMMAND: Final = f"{BACKEND}.processes:RunningCommand"
RECORD: Final = "oz_agent_worker.worker.backends.journal:JournalRecord"


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Before or after the ``call``-th call of a function, named as ``module:attribute``."""

    when: Literal["before", "after"]
    function: str
    call: int = 1


#: The life of an execution with a setup command, an agent and a teardown command, step by
#: step. The journal probes link(2) once when it starts, and is given its name with a second
#: one, between two fsync(2); each command's start writes the record (rename 1 to 3: setup,
#: agent, outcome, and 4: teardown).
STEPS: Final[Mapping[str, KillPoint]] = MappingProxyType(
    {
        "the journal has no name": KillPoint("before", "os:link", 2),
        "the journal has a name": KillPoint("after", "os:link", 2),
        "the worker has no slot": KillPoint("before", f"{BACKEND}.instance_slots:InstanceSlots.open"),
        "the worker has a slot": KillPoint("after", f"{BACKEND}.instance_slots:InstanceSlots.open"),
        "nothing is written": KillPoint("before", "os:link", 3),
        "the record stands": KillPoint("after", "os:link", 3),
        "the record names the workspace, which is not there": KillPoint(
            "before", f"{BACKEND}.workspace:private_folder"
        ),
        "the workspace has no lock": KillPoint("before", f"{BACKEND}.workspace:_lock"),
        "the workspace is locked": KillPoint("after", f"{BACKEND}.workspace:_lock"),
        "the workspace stands": KillPoint("after", f"{BACKEND}.records:RecordStore._begin"),
        "the setup command is to start": KillPoint("before", f"{COMMAND}.start"),
        "the setup command runs and is not written down": KillPoint("after", f"{COMMAND}.start"),
        "the setup command is written down": KillPoint("after", "os:rename", 1),
        "the setup command ended": KillPoint("after", f"{COMMAND}.wait"),
        "the agent is to start": KillPoint("before", f"{COMMAND}.start", 2),
        "the agent runs and is not written down": KillPoint("after", f"{COMMAND}.start", 2),
        "the agent is written down": KillPoint("after", "os:rename", 2),
        "the agent ended": KillPoint("after", f"{COMMAND}.wait", 2),
        "the outcome is on its way to the disk": KillPoint("before", "os:fsync", 3),
        "the outcome is on the disk under no name": KillPoint("before", "os:rename", 3),
        "the outcome is written down": KillPoint("after", "os:rename", 3),
        "the teardown command is to start": KillPoint("before", f"{COMMAND}.start", 3),
        "the teardown command runs": KillPoint("after", f"{COMMAND}.start", 3),
        "the teardown command ended": KillPoint("after", f"{COMMAND}.wait", 3),
        "the outcome is to be reported": KillPoint("before", f"{__name__}:report"),
        "the report is delivered": KillPoint("after", f"{__name__}:report"),
        "the workspace is to be removed": KillPoint("before", f"{BACKEND}.workspace:Workspace.remove"),
        "the workspace is on its way out": KillPoint("before", f"{BACKEND}.workspace:remove_tree"),
        "the workspace is removed": KillPoint("after", f"{BACKEND}.workspace:Workspace.remove"),
        "the record is removed": KillPoint("after", f"{RECORD}.remove"),
    }
)


#: The life of an execution whose worker died while the agent ran, in its successor's hands.
RECOVERY_STEPS: Final[Mapping[str, KillPoint]] = MappingProxyType(
    {
        "the workspace is to be taken": KillPoint("before", f"{BACKEND}.workspace:WorkspaceRoot.reopen"),
        "record and workspace are taken": KillPoint("after", f"{BACKEND}.workspace:WorkspaceRoot.reopen"),
        "the processes are ended": KillPoint("after", f"{BACKEND}.execution:end_and_warn"),
        "the loss is on its way to the disk": KillPoint("before", "os:fsync"),
        "the loss is written down": KillPoint("after", "os:rename"),
        "the lost task's teardown command is to start": KillPoint("before", f"{COMMAND}.start"),
        "the lost task's teardown command runs": KillPoint("after", f"{COMMAND}.start"),
        "the lost task's teardown command ended": KillPoint("after", f"{COMMAND}.wait"),
        "the loss is to be reported": KillPoint("before", f"{__name__}:report"),
        "the loss is delivered": KillPoint("after", f"{__name__}:report"),
        "the lost task's workspace is on its way out": KillPoint(
            "before", f"{BACKEND}.workspace:remove_tree"
        ),
        "the lost task's workspace is removed": KillPoint("after", f"{BACKEND}.workspace:Workspace.remove"),
        "the lost task's record is removed": KillPoint("after", f"{RECORD}.remove"),
    }
)


def set_trap(point: KillPoint) -> None:
    """Make this process kill itself there."""
    module, _, path = point.function.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    calls = iter(range(1, sys.maxsize))

    def reached(when: str, call: int) -> None:
        if (when, call) == (point.when, point.call):
            os.kill(os.getpid(), signal.SIGKILL)

    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def plain(*arguments: Any, **keywords: Any) -> Any:
        call = next(calls)
        reached("before", call)
        result = original(*arguments, **keywords)
        reached("after", call)
        return result

    @functools.wraps(original)
    async def asynchronous(*arguments: Any, **keywords: Any) -> Any:
        call = next(calls)
        reached("before", call)
        result = await original(*arguments, **keywords)
        reached("after", call)
        return result

    trapped: Any = asynchronous if inspect.iscoroutinefunction(original) else plain
    # A class method was bound when it was looked up, and takes no second class.
    setattr(owner, name, staticmethod(trapped) if inspect.ismethod(original) else trapped)


def report(folder: Path, text: str) -> None:
    """Deliver a report: the control plane has it once the line is written."""
    with (folder / "reports").open("a") as ledger:
        ledger.write(f"{text}\n")


async def see_off(folder: Path, execution: HostExecution) -> None:
    """Claim, wait, report, release."""
    (folder / "claimed").touch()
    outcome = await execution.wait()
    report(folder, f"{outcome.result} {outcome.reason} {outcome.exit_code}")
    await execution.release(outcome)


async def work(folder: Path) -> None:
    """Start a worker, recover what was left, and launch the assignment as long as it is unclaimed."""
    scratch = Scratch(folder / "scratch")
    config = DirectConfig(
        workspace_root=str(folder / "ws"),
        oz_path=str(folder / "agent"),
        setup_command=scratch.script("note setup $$; setsid sleep 300 & note service $!"),
        teardown_command=scratch.script("note teardown $$; setsid sleep 300 & note service $!"),
    )
    backend = DirectBackend(config, worker_id="w", cleanup=True, environ=WORKER_ENVIRON, grace=0.3)
    left: list[AdoptableExecution] = []
    await backend.start(left.append)
    for found in left:
        execution = found.follow(NoOutput())
        assert isinstance(execution, HostExecution)
        await see_off(folder, execution)
    if not (folder / "claimed").exists():
        await see_off(
            folder, await backend.launch(task_spec(task_id="run", execution_id="execution"), NoOutput())
        )
    await backend.close()


def main(folder: Path, step: str | None) -> None:
    """Go through the life of the task, up to a step of it where one is named."""
    if step is not None:
        set_trap({**STEPS, **RECOVERY_STEPS}[step])
    asyncio.run(work(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
