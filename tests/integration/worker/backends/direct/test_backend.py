import asyncio
import logging
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, TaskResult
from oz_agent_worker.worker.backends.base import LaunchError, NoOutput
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.config.schema import DirectConfig
from tests.integration.worker.backends.harness import (
    WORKER_ENVIRON,
    Recorder,
    eventually,
    is_running,
    leave_alone,
    task_spec,
)
from tests.timeouts import HANG_TIMEOUT

from .host import Host, entries, run

# Preflight


def backend_with(tmp_path: Path, environ: Mapping[str, str], **keys: Any) -> DirectBackend:
    default = keys.pop("default_agent", None)
    config = DirectConfig(workspace_root=str(tmp_path / "ws"), **keys)
    return DirectBackend(config, worker_id="w", cleanup=True, environ=environ, default_agent=default)


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.parent.name}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("wanted", ["configured", "default", "found"])
async def test_the_agent_is_the_configured_one_then_the_default_then_the_one_on_path(
    tmp_path: Path, wanted: str
) -> None:
    environ = {"PATH": str(program(tmp_path / "found" / "oz").parent)}
    keys: dict[str, Any] = {}
    if wanted != "found":
        keys["default_agent"] = str(program(tmp_path / "default" / "agent"))
    if wanted == "configured":
        keys["oz_path"] = str(program(tmp_path / "configured" / "agent"))
    backend = backend_with(tmp_path, environ, **keys)
    await backend.start(leave_alone)
    output = Recorder()
    await run(backend, task_spec(), output)
    assert output.data == f"{wanted}\n".encode()
    await backend.close()


@pytest.mark.parametrize(
    ("keys", "diagnosis"),
    [
        (
            {},
            "no agent: `oz` is not on PATH and backend.direct.oz_path is not set. "
            "Install the Oz CLI, or set backend.direct.oz_path",
        ),
        (
            {"oz_path": "{}/missing"},
            "backend.direct.oz_path: {}/missing does not exist or cannot be executed",
        ),
        ({"oz_path": "{}/plain"}, "or make the file executable with chmod +x"),
        ({"oz_path": "{}"}, "does not exist or cannot be executed"),
        ({"default_agent": "{}/missing"}, "the bundled agent: {}/missing does not exist"),
        (
            {"oz_path": "/bin/sh", "target_dir": "{}/missing"},
            "backend.direct.target_dir: {}/missing is not a folder",
        ),
        (
            {"oz_path": "/bin/sh", "target_dir": "{}/plain"},
            "backend.direct.target_dir: {}/plain is not a folder",
        ),
    ],
)
async def test_what_forbids_a_start_is_a_diagnosis(
    tmp_path: Path, keys: dict[str, str], diagnosis: str
) -> None:
    program(tmp_path / "plain", mode=0o644)
    backend = backend_with(
        tmp_path, {"PATH": str(tmp_path)}, **{k: v.format(tmp_path) for k, v in keys.items()}
    )
    with pytest.raises(PreflightError) as caught:
        await backend.start(leave_alone)
    assert diagnosis.format(tmp_path) in str(caught.value)


async def test_nothing_is_launched_before_the_start_or_after_the_end(host: Host) -> None:
    config = DirectConfig(workspace_root=str(host.root), oz_path=str(host.program))
    backend = DirectBackend(config, worker_id="w", cleanup=True, environ={})
    for _ in range(2):
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task_spec(), NoOutput())
        assert caught.value.outcome is None
        await backend.start(leave_alone)
        await backend.close()


# Workspace


async def test_a_task_id_that_is_no_name_fails_at_its_assignment(host: Host) -> None:
    backend = await host.backend()
    with pytest.raises(LaunchError) as caught:
        await backend.launch(task_spec(task_id="../escape"), NoOutput())
    outcome = caught.value.outcome
    assert outcome is not None
    assert (outcome.reason, outcome.phase) == (FailureReason.WORKSPACE_SETUP, FailurePhase.ASSIGNMENT)
    assert host.workspaces() == []


async def test_a_host_that_gives_no_workspace_hands_the_task_back(host: Host) -> None:
    backend = await host.backend()
    await eventually(lambda: host.workspaces() == [])
    shutil.rmtree(host.root)
    with pytest.raises(LaunchError, match="No such file") as caught:
        await backend.launch(task_spec(), NoOutput())
    assert caught.value.outcome is None


async def test_a_host_without_room_for_a_pipe_hands_the_task_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pipe() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    backend, spec = await host.backend(), task_spec()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pipe", no_pipe)
        with pytest.raises(LaunchError, match="Too many open files") as caught:
            await backend.launch(spec, NoOutput())
    assert caught.value.outcome is None
    assert (await run(backend, spec)).result is TaskResult.SUCCEEDED


async def test_with_a_target_every_task_runs_there_and_nothing_of_it_is_removed(
    host: Host, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    host.agent('pwd; env -0 > environment; touch "$1"')
    backend, outputs = await host.backend(target_dir=str(target)), [Recorder(), Recorder()]
    await asyncio.gather(*(run(backend, task_spec(str(n)), outputs[n]) for n in range(2)))
    assert [o.data for o in outputs] == [f"{target}\n".encode()] * 2
    assert sorted(p.name for p in target.iterdir()) == ["0", "1", "environment"]
    found = entries((target / "environment").read_bytes())
    assert found["OZ_WORKSPACE_ROOT"] == str(target)
    assert found["GIT_CONFIG_GLOBAL"].startswith(f"{host.root}/")
    assert host.workspaces() == []


@pytest.mark.parametrize("result", ["exit 0", "exit 1"])
async def test_cleanup_removes_workspaces_of_any_outcome_and_only_on_release(host: Host, result: str) -> None:
    host.agent(f"mkdir -p deep/er; chmod 500 deep; {result}")
    backend, spec = await host.backend(), task_spec()
    execution = await backend.launch(spec, NoOutput())
    outcome = await execution.wait()
    assert host.workspaces() == [spec.key.task_id]
    await execution.release(outcome)
    await execution.release(outcome)
    assert host.workspaces() == []


async def test_a_follow_up_finds_the_workspace_that_was_kept(host: Host) -> None:
    host.agent('ls; touch "$1"')
    backend, output = await host.backend(cleanup=False), Recorder()
    await run(backend, task_spec("first", task_id="run", execution_id="e1"))
    await run(backend, task_spec("second", task_id="run", execution_id="e2"), output)
    assert output.data == b"first\n"
    assert host.workspaces() == ["run"]


async def test_closing_leaves_unreleased_workspaces_to_a_later_execution(host: Host) -> None:
    backend, spec = await host.backend(), task_spec()
    execution = await backend.launch(spec, NoOutput())
    outcome = await execution.wait()
    await backend.close()
    assert host.workspaces() == [spec.key.task_id]
    await execution.release(outcome)  # too late to remove what another execution may hold
    assert (await run(await host.backend(), spec)).result is TaskResult.SUCCEEDED
    assert host.workspaces() == []


# The agent


async def test_the_agent_sees_exactly_this_environment(host: Host) -> None:
    host.agent("env -0")
    backend, output = await host.backend(), Recorder()
    spec = task_spec(environment={"A": "1"}, harness="claude")
    await run(backend, spec, output)
    workspace, private = host.root / spec.key.task_id, host.private(spec.key.task_id)
    shells_own = {"PWD", "SHLVL", "_", "OLDPWD"}
    found = {n: v for n, v in entries(output.data).items() if n not in shells_own}
    assert re.fullmatch("[0-9a-f]{32}", found.pop("OZ_EXECUTION_MARK"))
    assert found == {
        "PATH": WORKER_ENVIRON["PATH"],
        "A": "1",
        "GIT_CONFIG_GLOBAL": str(private / "gitconfig"),
        "CLAUDE_CONFIG_DIR": str(private / "claude"),
        "OZ_AGENT_GRACE_SECONDS": "0.24",  # of the 0.3 s between TERM and KILL
        "OZ_WORKSPACE_ROOT": str(workspace),
        "OZ_WORKER_BACKEND": "direct",
        "OZ_RUN_ID": spec.key.task_id,
        "OZ_ENVIRONMENT_FILE": str(private / "environment"),
    }


async def test_the_files_that_the_environment_names_are_there(host: Host) -> None:
    host.agent('stat -c "%a %s" "$GIT_CONFIG_GLOBAL" "$OZ_ENVIRONMENT_FILE"; stat -c %a "$CODEX_HOME"')
    backend, output = await host.backend(), Recorder()
    await run(backend, task_spec(harness="codex"), output)
    assert output.data == b"600 0\n600 0\n700\n"


async def test_the_agent_has_no_input_and_a_session_of_its_own(host: Host) -> None:
    host.agent('cat; ps -o pid=,pgid=,sid= -p $$ | { read -r a b c; [ "$a$b" = "$b$c" ] && echo leads; }')
    backend, output = await host.backend(), Recorder()
    await run(backend, task_spec(), output)
    assert output.data == b"leads\n"


async def test_an_agent_that_vanished_was_not_invoked(host: Host) -> None:
    backend = await host.backend()
    host.program.unlink()
    outcome = await run(backend, task_spec())
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.AGENT_INVOCATION)
    assert "No such file" in outcome.message


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("a\0b", FailureReason.AGENT_INVOCATION),
        pytest.param("x" * 200_000, FailureReason.TASK_TOO_LARGE, id="K12"),
    ],
)
async def test_arguments_that_the_system_refuses_are_a_failure(
    host: Host, argument: str, reason: FailureReason
) -> None:
    outcome = await run(await host.backend(), task_spec(argument))
    assert outcome.reason is reason
    assert len(outcome.message) < 300


@pytest.mark.parametrize("leave", ["", "setsid"])
async def test_what_the_agent_leaves_running_is_ended_and_holds_nothing_up(host: Host, leave: str) -> None:
    host.agent(f'{leave} sh -c \'echo $$ >> "$1"; exec sleep 300\' - "$scratch/left" & hold left; exit 4')
    outcome = await run(await host.backend(), task_spec())
    assert outcome.exit_code == 4
    assert not is_running(await host.scratch.noted("left"))


async def test_a_cancellation_finds_processes_that_left_the_group(host: Host) -> None:
    host.agent(
        'setsid sh -c \'trap "" TERM; echo $$ >> "$1"; while :; do sleep 0.05; done\' - $scratch/left & wait'
    )
    backend = await host.backend()
    execution = await backend.launch(task_spec(), NoOutput())
    pid = await host.scratch.noted("left")
    await execution.stop("test")
    assert not is_running(pid)
    assert (await execution.wait()).result is TaskResult.CANCELLED


async def test_what_a_killed_worker_left_running_is_ended_by_the_next_execution(host: Host) -> None:
    host.agent('note again "$(ps -o pid= -p "$(head -n 1 "$scratch/orphan")")"')
    spec = task_spec()
    await run(await host.backend(cleanup=False), spec)
    mark = f"OZ_ENVIRONMENT_FILE={host.private(spec.key.task_id)}/environment"
    orphaned_process = await asyncio.create_subprocess_exec("env", mark, "sleep", "300")
    host.scratch.folder.joinpath("orphan").write_text(f"{orphaned_process.pid}\n")
    await eventually(lambda: mark.encode() in Path(f"/proc/{orphaned_process.pid}/environ").read_bytes())
    await run(await host.backend(), spec)
    assert await orphaned_process.wait() == -signal.SIGTERM


# The end of the worker


async def test_an_event_loop_that_ends_takes_the_work_with_it(host: Host) -> None:
    host.agent("note agent $$; sleep 300")
    backend = await host.backend()
    execution = await backend.launch(task_spec(), NoOutput())
    pid = await host.scratch.noted("agent")
    (life,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("direct ")]
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await execution.wait()
    async with asyncio.timeout(HANG_TIMEOUT):  # KILL is sent; the kernel carries it out in its own time
        while is_running(pid):
            await asyncio.sleep(0.01)


async def test_no_log_has_secrets(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    host.agent("exit 1")
    backend = await host.backend(setup='echo "S=hidden-too" > "$OZ_ENVIRONMENT_FILE"', teardown="exit 1")
    outcome = await run(backend, task_spec("--mcp", "hidden-token", environment={"KEY": "hidden"}))
    assert "hidden" not in caplog.text + outcome.message


async def test_what_is_too_large_together_fails_the_task_with_the_largest_part(host: Host) -> None:
    """K12: that is known when the agent is started (E2BIG)."""
    host.agent("true")
    outcome = await run(await host.backend(), task_spec(*("x" * 120_000 for _ in range(60))))
    assert outcome.reason is FailureReason.TASK_TOO_LARGE
    assert "bytes together, and Linux passes" in outcome.message
    assert "xxx" not in outcome.message
