"""Scripts for what happens to Pods in clusters, and ways to choose one for each Pod."""

import asyncio
from collections.abc import Mapping

from .pod_run import Behaviour, PodRun, Script
from .states import Pod

__all__ = [
    "always",
    "beside",
    "by_annotation",
    "by_image",
    "by_label",
    "create_container_config_error",
    "err_image_pull_then_ok",
    "evicted",
    "exit_with",
    "failed_mount",
    "image_pull_back_off",
    "init_fails",
    "invalid_image_name",
    "is_preflight",
    "oom_killed",
    "preempted",
    "runs_until_cancelled",
    "stuck",
    "succeed",
    "unschedulable",
]

BACK_OFF = "ImagePullBackOff"


def always(script: Script) -> Behaviour:
    """Every Pod follows one script."""
    return lambda pod: script


def by_annotation(key: str, scripts: Mapping[str, Script], default: Script) -> Behaviour:
    """Choose by the value of an annotation, such as ``oz.warp.dev/task-id``."""
    return lambda pod: scripts.get((pod["metadata"].get("annotations") or {}).get(key, ""), default)


def by_label(key: str, scripts: Mapping[str, Script], default: Script) -> Behaviour:
    """Choose by the value of a label."""
    return lambda pod: scripts.get((pod["metadata"].get("labels") or {}).get(key, ""), default)


def by_image(scripts: Mapping[str, Script], default: Script) -> Behaviour:
    """Choose by the image of the container ``task``, or of the first where there is none."""

    def choose(pod: Pod) -> Script:
        containers = pod["spec"]["containers"]
        task = next((item for item in containers if item["name"] == "task"), containers[0])
        return scripts.get(task["image"], default)

    return choose


def is_preflight(pod: Pod) -> bool:
    """Whether it is the Pod of a worker's start-up preflight, and of no task."""
    return "oz-preflight" in (pod["metadata"].get("labels") or {})


def succeed(*, after: float = 0.0, output: str | bytes = b"") -> Script:
    """Run for ``after`` seconds, write ``output``, exit 0. With no time to run, Running is never reported."""
    return exit_with(0, after=after, output=output)


def exit_with(
    code: int, *, after: float = 0.0, output: str | bytes = b"", reason: str = "", message: str = ""
) -> Script:
    """Run for ``after`` seconds, write ``output``, and exit with ``code``."""

    async def script(run: PodRun) -> None:
        if after > 0:
            await run.run()
            await asyncio.sleep(after)
        run.write(output)
        await run.finish(code, reason=reason, message=message)

    return script


def oom_killed(*, after: float = 0.0, output: str | bytes = b"") -> Script:
    """The kernel kills the main container for its memory."""
    return exit_with(137, after=after, output=output, reason="OOMKilled")


def runs_until_cancelled(*, output: str | bytes = b"") -> Script:
    """Write ``output`` and run until the Pod is deleted."""

    async def script(run: PodRun) -> None:
        await run.run()
        run.write(output)
        await _for_ever()

    return script


def beside(
    exit_code: int, others: int | None = None, *, after: float = 0.0, output: str | bytes = b""
) -> Script:
    """End the main container; the others end with ``others``, or run until the Pod is deleted."""

    async def script(run: PodRun) -> None:
        await run.run()
        run.write(output)
        await asyncio.sleep(after)
        await run.end(run.main, exit_code)
        if others is None:
            await _for_ever()
        for container in run.pod["spec"]["containers"]:
            if container["name"] != run.main:
                await run.end(container["name"], others or 0)

    return script


def evicted(message: str = "The node was low on resource: memory. ", *, after: float = 0.0) -> Script:
    """Run for ``after`` seconds; then the node is short of something and throws the Pod out."""

    async def script(run: PodRun) -> None:
        await run.run()
        await asyncio.sleep(after)
        await run.event("Evicted", message)
        await run.evict(message)

    return script


def preempted(message: str = "default-scheduler: preempting to accommodate a higher priority pod") -> Script:
    """Run until the scheduler gives the Pod's place to one of a higher priority."""

    async def script(run: PodRun) -> None:
        await run.run()
        await run.disrupt("PreemptionByScheduler", message)
        await _for_ever()

    return script


def stuck(reason: str = "FailedCreatePodSandBox", message: str = "no free IP in the range") -> Script:
    """The Pod gets a node and no further; an Event says why."""

    async def script(run: PodRun) -> None:
        await run.publish()
        await run.event(reason, message)
        await _for_ever()

    return script


def init_fails(
    code: int = 1, *, container: str | None = None, reason: str = "", output: str | bytes = b""
) -> Script:
    """An init container (the first, unless named) exits with ``code``, which fails the Pod."""

    async def script(run: PodRun) -> None:
        name = container or run.pod["spec"]["initContainers"][0]["name"]
        await run.start_init(name)
        run.write(output, container=name)
        await run.end_init(name, code, reason=reason)

    return script


def image_pull_back_off(
    message: str = "not found", *, container: str | None = None, after: float = 0.05
) -> Script:
    """The image cannot be pulled, and the kubelet tries again for ever."""

    async def script(run: PodRun) -> None:
        await _fail_to_pull(run, container, message)
        await asyncio.sleep(after)
        await _back_off(run, container, message)
        await _for_ever()

    return script


def err_image_pull_then_ok(
    then: Script, *, message: str = "i/o timeout", container: str | None = None, after: float = 0.2
) -> Script:
    """The first pull fails, and the kubelet backs off; the next one succeeds, and the Pod does ``then``."""

    async def script(run: PodRun) -> None:
        await _fail_to_pull(run, container, message)
        await asyncio.sleep(after / 2)
        await _back_off(run, container, message)
        await asyncio.sleep(after / 2)
        await then(run)

    return script


def invalid_image_name(*, container: str | None = None) -> Script:
    """The image's name is none: nothing will ever be pulled."""

    async def script(run: PodRun) -> None:
        image = run.container(container or run.main)["image"]
        message = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}"'
        await run.event("InspectFailed", f"{message}: invalid reference format")
        await run.wait("InvalidImageName", f"{message}: invalid reference format", container=container)
        await _for_ever()

    return script


def create_container_config_error(
    message: str = 'secret "missing" not found', *, container: str | None = None
) -> Script:
    """The container's configuration names something that does not exist."""

    async def script(run: PodRun) -> None:
        await run.event("Failed", f"Error: {message}")
        await run.wait("CreateContainerConfigError", message, container=container)
        await _for_ever()

    return script


def failed_mount(message: str, *, then: Script | None = None, after: float = 0.2) -> Script:
    """A volume cannot be mounted: an Event says so while the Pod waits. With ``then`` it heals."""

    async def script(run: PodRun) -> None:
        await run.publish()
        await run.event("FailedMount", message)
        if then is None:
            await _for_ever()
        else:
            await asyncio.sleep(after)
            await then(run)

    return script


def unschedulable(
    message: str = "0/1 nodes are available: 1 Insufficient cpu.",
    *,
    autoscaler: tuple[str, str] | None = None,
    then: Script | None = None,
    after: float = 0.2,
) -> Script:
    """No node fits the Pod: for ever, or until ``after`` seconds later it follows ``then``.

    ``autoscaler`` is what it says of the Pod: an Event's reason and message.
    """

    async def script(run: PodRun) -> None:
        await run.unschedulable(message)
        if autoscaler is not None:
            await run.event(*autoscaler, kind="Normal", component="cluster-autoscaler")
        if then is None:
            await _for_ever()
        else:
            await asyncio.sleep(after)
            await then(run)

    return script


async def _fail_to_pull(run: PodRun, container: str | None, message: str) -> None:
    reported = _pull_error(run, container, message)
    await run.event("Failed", f"Failed to pull image: {reported}")
    await run.wait("ErrImagePull", reported, container=container)


async def _back_off(run: PodRun, container: str | None, message: str) -> None:
    image = run.container(container or run.main)["image"]
    reported = f'Back-off pulling image "{image}": ErrImagePull: {_pull_error(run, container, message)}'
    await run.event("BackOff", f'Back-off pulling image "{image}"', kind="Normal")
    await run.wait(BACK_OFF, reported, container=container)


def _pull_error(run: PodRun, container: str | None, message: str) -> str:
    """Return containerd's message."""
    image = run.container(container or run.main)["image"]
    failed = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    return f"rpc error: code = Unknown desc = {failed}: {message}"


async def _for_ever() -> None:
    """Wait until the Pod is deleted, which cancels the script."""
    await asyncio.Event().wait()
