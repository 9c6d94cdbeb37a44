"""What operators of the public worker rely on with its direct backend, sentence by sentence.

Where this backend differs on purpose, the sentence says so; docs/faq.md lists these.
"""

import asyncio
import logging
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import SHUTDOWN, NoOutput
from tests.integration.worker.backends.harness import WORKER_ENVIRON, Recorder, task_spec

from .host import Host, entries, run

SHELLS_OWN = {"PWD", "SHLVL", "_", "OLDPWD"}
TASK = {"OF_TASK": "1", "PATH": f"/task:{WORKER_ENVIRON['PATH']}", "CLAUDE_CONFIG_DIR": "/of/task"}


async def environments(host: Host, setup: str = "", **keys: Any) -> dict[str, dict[str, str]]:
    """The environment of each of a task's processes."""
    show = 'env -0 > "$scratch/{}.env"'
    host.agent(show.format("agent"))
    backend = await host.backend(
        setup=f"{show.format('setup')}\n{setup}", teardown=show.format("teardown"), **keys
    )
    await run(backend, task_spec(task_id="run", harness="claude", environment=TASK))
    found = {}
    for path in host.scratch.folder.glob("*.env"):
        variables = entries(path.read_bytes())
        found[path.stem] = {n: v for n, v in variables.items() if n not in SHELLS_OWN}
    return found


async def test_setup_and_teardown_have_the_workers_environment_but_not_its_key(host: Host) -> None:
    """Differs on purpose: the public worker's commands have its API key too."""
    found = await environments(host)
    for name in ("setup", "teardown"):
        assert found[name]["WORKER_ONLY"] == WORKER_ENVIRON["WORKER_ONLY"]
        assert "WARP_API_KEY" not in found[name]


async def test_the_agent_has_a_minimal_environment(host: Host) -> None:
    """Differs on purpose: the agent has the backend's OZ_* too, which the bundled agent reads."""
    found = await environments(host)
    assert "WORKER_ONLY" not in found["agent"]
    assert found["agent"]["OF_TASK"] == "1"
    assert found["agent"]["OZ_WORKER_BACKEND"] == "direct"


async def test_the_teardown_command_has_nothing_of_the_tasks(host: Host) -> None:
    teardown = (await environments(host))["teardown"]
    own = {"GIT_CONFIG_GLOBAL", "OZ_WORKSPACE_ROOT", "OZ_WORKER_BACKEND", "OZ_RUN_ID"}
    added = {"OZ_ENVIRONMENT_FILE", "OZ_EXECUTION_MARK", "OZ_AGENT_GRACE_SECONDS", "CLAUDE_CONFIG_DIR"}
    worker = {name: value for name, value in WORKER_ENVIRON.items() if name != "WARP_API_KEY"}
    assert set(teardown) == set(worker) | own | added
    assert {name: teardown[name] for name in worker} == worker
    assert teardown["CLAUDE_CONFIG_DIR"] == str(host.private() / "claude")


@pytest.mark.parametrize(("cleanup", "ran"), [(True, ["ran"]), (False, [])])
@pytest.mark.parametrize("target", [False, True])
async def test_the_teardown_command_is_skipped_with_no_cleanup_and_not_with_a_target(
    host: Host, caplog: pytest.LogCaptureFixture, cleanup: bool, ran: list[str], target: bool
) -> None:
    keys = {"target_dir": str(host.folder)} if target else {}
    backend = await host.backend(teardown="note teardown ran", cleanup=cleanup, **keys)
    await run(backend, task_spec())
    assert host.scratch.lines("teardown") == ran
    assert ("teardown_command does not run" in caplog.text) is not cleanup


async def test_the_teardown_command_runs_after_a_cancellation(host: Host) -> None:
    """Differs on purpose: the public worker's fails at once then."""
    host.agent("note agent began; sleep 300")
    backend = await host.backend(teardown="note teardown ran")
    execution = await backend.launch(task_spec(), NoOutput())
    await host.scratch.noted("agent")
    await execution.stop("test")
    assert (await execution.wait()).result is TaskResult.CANCELLED
    assert host.scratch.lines("teardown") == ["ran"]


async def test_the_environment_file_expands_earlier_lines_and_takes_yaml(host: Host) -> None:
    lines = r"printf '%s\n' 'A=1' 'B=$A-2' 'D: yaml' > $OZ_ENVIRONMENT_FILE"
    agent = (await environments(host, lines))["agent"]
    assert (agent["A"], agent["B"], agent["D"]) == ("1", "1-2", "yaml")


async def test_git_s_configuration_cannot_be_set_from_the_file_and_that_is_said_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    found = await environments(host, "printf 'A=1\\nGIT_CONFIG_GLOBAL=/x\\n' > $OZ_ENVIRONMENT_FILE")
    assert found["agent"]["GIT_CONFIG_GLOBAL"] == str(host.private() / "gitconfig")
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [w for w in warnings if "line 2: GIT_CONFIG_GLOBAL" in w] == warnings


async def test_the_harness_s_home_can_be_set_from_the_file_and_not_from_the_configuration(host: Host) -> None:
    """Differs on purpose: the home is not in the workspace, where it would be in the way of a clone."""
    found = await environments(host)
    assert found["agent"]["CLAUDE_CONFIG_DIR"] == str(host.private() / "claude")
    found = await environments(host, 'echo "CLAUDE_CONFIG_DIR=/x" > $OZ_ENVIRONMENT_FILE')
    assert found["agent"]["CLAUDE_CONFIG_DIR"] == "/x"


@pytest.mark.parametrize(("cleanup", "left"), [(True, []), (False, ["run"])])
async def test_a_shutdown_ends_tasks_and_removes_their_workspaces(
    host: Host, cleanup: bool, left: list[str]
) -> None:
    """Differs on purpose: the public worker removes them with --no-cleanup too."""
    host.agent("note agent began; sleep 300")
    backend = await host.backend(cleanup=cleanup)
    execution = await backend.launch(task_spec(task_id="run"), NoOutput())
    await host.scratch.noted("agent")
    await execution.stop(SHUTDOWN)
    outcome = await execution.wait()
    assert outcome.reason is FailureReason.GRACEFUL_SHUTDOWN
    await execution.release(outcome)
    await asyncio.sleep(0)
    assert host.workspaces() == left


async def test_the_exit_of_the_agent_is_container_exit(host: Host) -> None:
    """Differs on purpose: agent_invocation with the public worker."""
    host.agent("exit 7")
    outcome = await run(await host.backend(), task_spec(), Recorder())
    assert (outcome.reason, outcome.exit_code) == (FailureReason.CONTAINER_EXIT, 7)
