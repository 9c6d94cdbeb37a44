import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.backends.base import LaunchError, NoOutput
from oz_agent_worker.backends.direct import DirectBackend
from oz_agent_worker.config.schema import DirectConfig
from oz_agent_worker.core.outcome import FailurePhase, FailureReason, Outcome, TaskResult
from oz_agent_worker.core.taskspec import TaskSpec
from oz_agent_worker.errors import PreflightError
from tests.integration.backends.harness import (
    WORKER_ENVIRON,
    Recorder,
    Scratch,
    eventually,
    is_running,
    task_spec,
)


class Host:
    """A direct backend's surroundings: an agent, a workspace root, notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "ws"
        self.program = folder / "agent"
        (folder / "scratch").mkdir()
        self.scratch = Scratch(folder / "scratch")
        self.backends: list[DirectBackend] = []
        self.agent("note agent ran")

    def agent(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{self.scratch.script(script)}")
        self.program.chmod(0o755)

    async def backend(
        self, *, setup: str | None = None, teardown: str | None = None, cleanup: bool = True, **keys: Any
    ) -> DirectBackend:
        """Start a backend whose commands may leave notes."""
        config = DirectConfig(
            workspace_root=str(self.root),
            oz_path=str(self.program),
            setup_command=setup and self.scratch.script(setup),
            teardown_command=teardown and self.scratch.script(teardown),
            target_dir=keys.pop("target_dir", None),
        )
        backend = DirectBackend(
            config, worker_id="w", cleanup=cleanup, environ=WORKER_ENVIRON, grace=0.3, **keys
        )
        await backend.start()
        self.backends.append(backend)
        return backend

    def workspaces(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    yield host
    for backend in host.backends:
        await backend.close()


async def run(backend: DirectBackend, spec: TaskSpec, output: Recorder | None = None) -> Outcome:
    execution = await backend.launch(spec, output or NoOutput())
    outcome = await execution.wait()
    await execution.release(outcome)
    return outcome


def entries(data: bytes) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in data.decode().split("\0")[:-1])


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
    await backend.start()
    output = Recorder()
    await run(backend, task_spec(), output)
    assert output.data == f"{wanted}\n".encode()
    await backend.close()


@pytest.mark.parametrize(
    ("keys", "diagnosis"),
    [
        ({}, "no agent: `oz` is not on PATH. Install the Oz CLI, or set backend.direct.oz_path"),
        (
            {"oz_path": "{}/missing"},
            "backend.direct.oz_path: {}/missing does not exist or cannot be executed",
        ),
        ({"oz_path": "{}/plain"}, "or make the file executable with chmod +x"),
        ({"oz_path": "{}"}, "does not exist or cannot be executed"),
        ({"default_agent": "{}/missing"}, "the built-in agent: {}/missing does not exist"),
        (
            {"oz_path": "/bin/sh", "target_dir": "{}/missing"},
            "backend.direct.target_dir: {}/missing is no folder",
        ),
        (
            {"oz_path": "/bin/sh", "target_dir": "{}/plain"},
            "backend.direct.target_dir: {}/plain is no folder",
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
        await backend.start()
    assert diagnosis.format(tmp_path) in str(caught.value)


async def test_nothing_is_launched_before_the_start_or_after_the_end(host: Host) -> None:
    config = DirectConfig(workspace_root=str(host.root), oz_path=str(host.program))
    backend = DirectBackend(config, worker_id="w", cleanup=True, environ={})
    for _ in range(2):
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task_spec(), NoOutput())
        assert caught.value.outcome is None
        await backend.start()
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
    host.root.rmdir()
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
    assert host.workspaces() == [spec.task_id]
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
    assert host.workspaces() == [spec.task_id]
    await execution.release(outcome)  # too late to remove what another execution may hold
    assert (await run(await host.backend(), spec)).result is TaskResult.SUCCEEDED
    assert host.workspaces() == []


# The agent


async def test_the_agent_sees_exactly_this_environment(host: Host) -> None:
    host.agent("env -0")
    backend, output = await host.backend(), Recorder()
    spec = task_spec(environment={"A": "1"}, harness="claude")
    await run(backend, spec, output)
    workspace = host.root / spec.task_id
    shells_own = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {n: v for n, v in entries(output.data).items() if n not in shells_own} == {
        "PATH": WORKER_ENVIRON["PATH"],
        "A": "1",
        "GIT_CONFIG_GLOBAL": str(workspace / ".oz/gitconfig"),
        "CLAUDE_CONFIG_DIR": str(workspace / ".oz/claude"),
        "OZ_WORKSPACE_ROOT": str(workspace),
        "OZ_WORKER_BACKEND": "direct",
        "OZ_RUN_ID": spec.task_id,
        "OZ_ENVIRONMENT_FILE": str(workspace / ".oz/environment"),
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


@pytest.mark.parametrize("argument", ["a\0b", "x" * 200_000])
async def test_arguments_that_the_system_refuses_are_a_failure(host: Host, argument: str) -> None:
    outcome = await run(await host.backend(), task_spec(argument))
    assert outcome.reason is FailureReason.AGENT_INVOCATION
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
    mark = f"OZ_ENVIRONMENT_FILE={host.root}/{spec.task_id}/.oz/environment"
    orphan = await asyncio.create_subprocess_exec("env", mark, "sleep", "300")
    host.scratch.folder.joinpath("orphan").write_text(f"{orphan.pid}\n")
    await eventually(lambda: mark.encode() in Path(f"/proc/{orphan.pid}/environ").read_bytes())
    await run(await host.backend(), spec)
    assert await orphan.wait() == -signal.SIGTERM


# Setup command


async def test_the_setup_command_sees_the_workers_environment_without_its_key(host: Host) -> None:
    backend = await host.backend(setup='env -0; pwd; [ "$(pwd -P)" = "$OZ_WORKSPACE_ROOT" ]')
    output = Recorder()
    outcome = await run(backend, task_spec(environment={"A": "1"}), output)
    assert outcome.result is TaskResult.SUCCEEDED
    found = entries(output.data)
    assert (found["WORKER_ONLY"], found["A"]) == (WORKER_ENVIRON["WORKER_ONLY"], "1")
    assert "WARP_API_KEY" not in found


async def test_what_the_setup_command_exports_reaches_agent_and_teardown(host: Host) -> None:
    exports = r"""printf '# c\nexport A="from\\nsetup"\nB=2\nOZ_RUN_ID=mine\n' > "$OZ_ENVIRONMENT_FILE" """
    show = 'echo "$A/$B/$C/$OZ_RUN_ID"'
    host.agent(show)
    backend, output = await host.backend(setup=exports, teardown=show), Recorder()
    await run(backend, task_spec(task_id="run", environment={"A": "spec", "C": "3"}), output)
    assert output.data == b"from\nsetup/2/3/run\n" * 2


@pytest.mark.parametrize(
    ("setup", "message", "code"),
    [
        ("exit 9", "The setup command ended with exit code 9", 9),
        ("kill -KILL $$", "The setup command ended with exit code 137 (SIGKILL)", 137),
        (
            'echo "hidden words" > "$OZ_ENVIRONMENT_FILE"',
            "The setup command's environment file cannot be read: line 1: `=` is missing",
            None,
        ),
        (
            'rm "$OZ_ENVIRONMENT_FILE"; mkfifo "$OZ_ENVIRONMENT_FILE"',
            "The setup command's environment file cannot be read: it is no regular file",
            None,
        ),
    ],
)
async def test_a_setup_that_fails_is_the_outcome_and_no_agent_runs(
    host: Host, setup: str, message: str, code: int | None
) -> None:
    backend, output = (
        await host.backend(setup=f"echo said; {setup}", teardown="note teardown ran"),
        Recorder(),
    )
    outcome = await run(backend, task_spec(), output)
    assert (outcome.result, outcome.reason) == (TaskResult.FAILED, FailureReason.SETUP_COMMAND)
    assert (outcome.message, outcome.exit_code) == (message, code)
    assert output.data == b"said\n"
    assert host.scratch.lines("agent") == []
    assert host.scratch.lines("teardown") == ["ran"]


async def test_a_cancellation_during_setup_ends_it_and_no_agent_runs(host: Host) -> None:
    backend = await host.backend(setup="note setup $$; sleep 300", teardown="note teardown ran")
    execution = await backend.launch(task_spec(), NoOutput())
    pid = await host.scratch.noted("setup")
    await execution.stop("test")
    assert (await execution.wait()).result is TaskResult.CANCELLED
    assert not is_running(pid)
    assert host.scratch.lines("agent") == []
    assert host.scratch.lines("teardown") == ["ran"]


async def test_what_the_setup_starts_serves_until_after_the_teardown(host: Host) -> None:
    service = 'sh -c \'echo $$ >> "$1"; hold() { while [ ! -e "$1" ]; do sleep 0.02; done; }; '
    service += 'hold "$2"; echo served; exec sleep 300\' - "$scratch/service" "$scratch/agent"'
    alive = 'kill -0 "$(head -n 1 "$scratch/service")" && note "$1" yes'
    host.agent(f"set -- agent; {alive}")
    backend = await host.backend(
        setup=f"setsid {service} & hold service", teardown=f"set -- teardown; {alive}; sleep 0.1"
    )
    output = Recorder()
    outcome = await run(backend, task_spec(), output)
    assert outcome.result is TaskResult.SUCCEEDED
    assert host.scratch.lines("agent") == host.scratch.lines("teardown") == ["yes"]
    assert output.data == b"served\n"
    assert not is_running(await host.scratch.noted("service"))


# Teardown command


async def cancelled(backend: DirectBackend, host: Host) -> Outcome:
    execution = await backend.launch(task_spec(), NoOutput())
    await host.scratch.noted("agent")
    await execution.stop("test")
    return await execution.wait()


async def ended(backend: DirectBackend, host: Host) -> Outcome:
    return await run(backend, task_spec())


@pytest.mark.parametrize(
    ("agent", "end", "result"),
    [
        ("exit 0", ended, TaskResult.SUCCEEDED),
        ("exit 6", ended, TaskResult.FAILED),
        ("note agent $$; sleep 300", cancelled, TaskResult.CANCELLED),
    ],
)
async def test_teardown_runs_once_after_every_end_and_changes_none(
    host: Host,
    caplog: pytest.LogCaptureFixture,
    agent: str,
    end: Callable[[DirectBackend, Host], Awaitable[Outcome]],
    result: TaskResult,
) -> None:
    host.agent(agent)
    backend = await host.backend(teardown="note teardown ran; exit 3")
    assert (await end(backend, host)).result is result
    assert host.scratch.lines("teardown") == ["ran"]
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "the teardown command ended with exit code 3" in record.getMessage()


async def test_teardown_prints_to_the_tasks_output(host: Host) -> None:
    host.agent("echo agent")
    backend, output = await host.backend(setup="echo setup", teardown="echo teardown"), Recorder()
    await run(backend, task_spec(), output)
    assert output.data == b"setup\nagent\nteardown\n"


async def test_a_teardown_that_takes_too_long_is_ended(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    backend = await host.backend(teardown="note teardown $$; sleep 300", teardown_timeout=0.2)
    assert (await run(backend, task_spec())).result is TaskResult.SUCCEEDED
    assert not is_running(await host.scratch.noted("teardown"))
    assert "took longer than 0.2 s" in caplog.text


async def test_a_cancellation_does_not_cut_a_teardown_short(host: Host) -> None:
    backend = await host.backend(teardown="note begun yes; hold go; note teardown whole")
    execution = await backend.launch(task_spec(), NoOutput())
    await host.scratch.noted("begun")
    stopping = asyncio.create_task(execution.stop("test"))
    await asyncio.sleep(0)
    host.scratch.note("go")
    await stopping
    assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert host.scratch.lines("teardown") == ["whole"]


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
    assert not is_running(pid)


async def test_secrets_stand_in_no_log(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    host.agent("exit 1")
    backend = await host.backend(setup='echo "S=hidden-too" > "$OZ_ENVIRONMENT_FILE"', teardown="exit 1")
    outcome = await run(backend, task_spec("--mcp", "hidden-token", environment={"KEY": "hidden"}))
    assert "hidden" not in caplog.text + outcome.message
