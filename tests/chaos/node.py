"""The played node, a process of its own: ``python -m tests.chaos.node KUBECONFIG LEDGER NAMESPACE``.

Every Pod does what its task's orders say; see ``tests.chaos.plan``. The end of standard input
ends the node. A line on standard output says that it is ready.
"""

import asyncio
import json
import sys
from pathlib import Path

from tests.cluster.kubeconfig import Connection
from tests.cluster.kubelet import Behaviour, Kubelet, PodRun, Script, behaviours
from tests.cluster.kubelet.states import Pod

from .plan import End, TaskPlan, parse_orders
from .records import Recorder

__all__ = ["main"]

_TASK_ID = "oz.warp.dev/task-id"
_EXECUTION_ID = "oz.warp.dev/execution-id"
_JOB_UID = "batch.kubernetes.io/controller-uid"


def behaviour_of(recorder: Recorder) -> Behaviour:
    """Choose what becomes of a Pod, and record what its container does."""

    def choose(pod: Pod) -> Script:
        plan = parse_orders(json.dumps(pod["spec"]))
        if plan is None:
            return behaviours.succeed()
        match plan.end:
            case End.IMAGE_PULL:
                return behaviours.image_pull_back_off()
            case End.UNSCHEDULABLE:
                return behaviours.unschedulable()
        return _recorded(plan, recorder)

    return choose


def _recorded(plan: TaskPlan, recorder: Recorder) -> Script:
    """Run the container as planned; its start is recorded before the API server hears of it."""

    async def script(run: PodRun) -> None:
        annotations = run.pod["metadata"].get("annotations") or {}
        owner = (run.pod["metadata"].get("labels") or {}).get(_JOB_UID, "")
        names = (annotations.get(_TASK_ID, ""), annotations.get(_EXECUTION_ID, ""), run.uid, owner)
        await run.bind()
        recorder.write("start", *names)
        await run.run()
        run.write(f"task {plan.number} runs\n")
        if plan.end is End.NEVER:
            await asyncio.Event().wait()
        await asyncio.sleep(plan.seconds)
        recorder.write("end", *names)
        await _end(plan, run)

    return script


async def _end(plan: TaskPlan, run: PodRun) -> None:
    match plan.end:
        case End.EVICTED:
            await run.evict("The node was low on resource: memory. ")
        case End.OOM:
            await run.finish(plan.exit_code, reason="OOMKilled")
        case _:
            await run.finish(plan.exit_code)


async def _play(kubeconfig: Path, ledger: Path, namespace: str) -> None:
    connection = Connection.from_kubeconfig(kubeconfig)
    async with Kubelet(connection, behaviour_of(Recorder(ledger)), namespaces=[namespace]):
        print("ready", flush=True)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()


def main() -> None:
    """Run the node until its input ends."""
    kubeconfig, ledger, namespace = sys.argv[1:]
    asyncio.run(_play(Path(kubeconfig), Path(ledger), namespace))


if __name__ == "__main__":
    main()
