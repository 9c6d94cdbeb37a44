"""The outcomes that a real node brings about, as a table: what is assigned, and what must be reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from oz_agent_worker.protocol import frames
from tests.cluster.node.images import BUSYBOX_IMAGE, EMPTY_IMAGE

from .tasks import script_task

__all__ = ["DRESSED", "LIMITED", "Case", "dressed_cases", "limited_cases"]

LIMITED: Final[Mapping[str, Any]] = {
    "resources": {"limits": {"memory": "64Mi"}},
    "workspace_size_limit": "4Mi",
    "unschedulable_timeout": "3s",
}
"""A worker's section whose tasks have little room."""

# A native sidecar (core/v1, Container.restartPolicy) that ends as the kubelet's TERM makes it.
PROXY: Final[Mapping[str, Any]] = {
    "name": "proxy",
    "image": BUSYBOX_IMAGE,
    "restartPolicy": "Always",
    "command": ["/bin/sh", "-c", "trap 'exit 143' TERM; while :; do sleep 1 & wait $!; done"],
}

DRESSED: Final[Mapping[str, Any]] = {
    "setup_command": (
        'test -z "$SETUP_FAILS" || { echo "no such branch" >&2; exit 9; }\n'
        'echo "set up in $PWD"; echo 0 > runs\n'
        'echo "GREETING=good morning" | sed "s/=\\(.*\\)/=\'\\1\'/" > "$OZ_ENVIRONMENT_FILE"'
    ),
    "teardown_command": 'echo $(( `cat runs` + 1 )) > runs; echo "torn down: `cat runs`"',
    "pod_template": {"initContainers": [PROXY]},
}
"""A worker's section with commands around the task, and a native sidecar beside it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task, and its report: ``reason`` None is success; the message contains all ``message_parts``.

    ``output`` is the task's whole output, where it is checked.
    """

    name: str
    task: frames.TaskAssignment
    reason: str | None = None
    exit_code: int | None = None
    message_parts: Sequence[str] = field(default=())
    output: str | None = None


def limited_cases() -> list[Case]:
    """Tasks of the worker ``LIMITED``."""
    return [
        Case(name="success", task=script_task("echo done"), output="done\n"),
        Case(
            name="exit code 3",
            task=script_task("echo about to fail; exit 3"),
            reason="container_exit",
            exit_code=3,
            message_parts=["`task`", "exit code 3"],
            output="about to fail\n",
        ),
        Case(
            name="a signal of its own",
            task=script_task("/bin/sh -c 'kill -s SEGV $$'; exit $?"),
            reason="container_exit",
            exit_code=139,
            message_parts=["SIGSEGV"],
        ),
        Case(
            name="out of memory",
            task=script_task("exec dd if=/dev/zero of=/dev/null bs=256M count=1"),
            reason="container_oom",
            exit_code=137,
            message_parts=["`task`", "OOMKilled", "more memory"],
        ),
        Case(
            name="workspace over its limit",
            task=script_task("dd if=/dev/zero of=/workspace/big bs=1M count=32; sleep 120"),
            reason="evicted",
            message_parts=["workspace", "4Mi"],
        ),
        Case(
            name="no such agent program",
            task=script_task("exit 0", agent=BUSYBOX_IMAGE),
            reason="container_exit",
            exit_code=127,
            message_parts=["/agent/entrypoint.sh"],
        ),
        Case(
            name="task image without a shell",
            task=script_task("exit 0", image=EMPTY_IMAGE),
            reason="container_start",
            message_parts=["`task`", "/bin/sh"],
        ),
        Case(
            name="sidecar image without a shell",
            task=script_task("exit 0", agent=EMPTY_IMAGE),
            reason="sidecar_prep",
            message_parts=["`copy-sidecar-0`", "/bin/sh"],
        ),
        Case(
            name="image name that is none",
            task=script_task("exit 0", image="oz.test/UPPER CASE"),
            reason="invalid_image",
            message_parts=["oz.test/UPPER CASE"],
        ),
        Case(
            name="more processors than any node has",
            task=script_task("exit 0", vcpus=500),
            reason="unschedulable",
            message_parts=["Insufficient cpu", "unschedulable_timeout"],
        ),
    ]


def dressed_cases() -> list[Case]:
    """Tasks of the worker ``DRESSED``: a native sidecar that ends with 143 decides none of them."""
    return [
        Case(
            name="setup, environment file, teardown, native sidecar",
            task=script_task('echo "$GREETING"'),
            output="set up in /workspace\ngood morning\ntorn down: 1\n",
        ),
        Case(
            name="teardown keeps the exit code",
            task=script_task("echo failing; exit 5"),
            reason="container_exit",
            exit_code=5,
            message_parts=["exit code 5"],
            output="set up in /workspace\nfailing\ntorn down: 1\n",
        ),
        Case(
            name="setup that fails",
            task=script_task("exit 0", SETUP_FAILS="yes"),
            reason="setup_command",
            exit_code=9,
            message_parts=["`setup`", "exit code 9", "setup_command", "in its own words: no such branch"],
        ),
    ]
