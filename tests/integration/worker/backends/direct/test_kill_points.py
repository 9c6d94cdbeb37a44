"""A worker that is killed at any step of a task's life, and the next one over its folder.

What holds at each: the work ran at most once, the task has one end, and nothing is left.
"""

import subprocess
import sys

import pytest

from oz_agent_worker.worker.backends.direct.processes import ProcessSet
from tests.timeouts import HANG_TIMEOUT

from .host import Host
from .kill_points import RECOVERY_STEPS, STEPS

KILLED = -9
SUCCEEDED = "succeeded None None"
LOST = "failed worker_lost None"

#: The steps at which the outcome, or nothing at all, is known to the next worker.
KNOWN = {
    # The assignment comes again, and the task runs.
    "the journal has no name",
    "the journal has a name",
    "the worker has no slot",
    "the worker has a slot",
    "nothing is written",
    "the outcome is written down",
    "the teardown command is to start",
    "the teardown command runs",
    "the teardown command ended",
    "the outcome is to be reported",
    "the report is delivered",
    "the workspace is to be removed",
    "the workspace is on its way out",
    "the workspace is removed",
    "the record is removed",
}


def worker(host: Host, *step: str) -> int:
    """Run a worker to its end, or to a step; its exit code."""
    command = [
        sys.executable,
        "-m",
        "tests.integration.worker.backends.direct.kill_points",
        str(host.folder),
        *step,
    ]
    return subprocess.run(command, check=False, timeout=HANG_TIMEOUT).returncode


def reports(host: Host) -> set[str]:
    """The reports that the control plane got: a report may come twice, a second end may not."""
    return set((host.folder / "reports").read_text().splitlines())


def assert_nothing_left(host: Host) -> None:
    for command in ("setup", "agent", "teardown"):
        assert len(host.scratch.lines(command)) <= 1
    assert host.workspaces() == []
    assert host.records() == []
    # By a variable of the task's other than its mark.
    variable = f"OZ_ENVIRONMENT_FILE={host.private()}/environment"
    assert ProcessSet(variable.encode()).find() == {}


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_at_any_step_loses_nothing_and_leaves_nothing(host: Host, step: str) -> None:
    host.agent("note agent $$; setsid sleep 300 & sleep 0.05")
    assert worker(host, step) == KILLED
    assert worker(host) == 0
    assert reports(host) == {SUCCEEDED if step in KNOWN else LOST}
    assert_nothing_left(host)


@pytest.mark.parametrize("step", RECOVERY_STEPS)
async def test_a_successor_killed_at_any_step_has_a_successor(host: Host, step: str) -> None:
    host.agent("note agent $$; setsid sleep 300 & hold never")
    assert worker(host, "the agent is written down") == KILLED
    assert worker(host, step) == KILLED
    assert worker(host) == 0
    assert reports(host) == {LOST}
    assert_nothing_left(host)
