"""Setup and teardown commands."""

import asyncio
import logging
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.config.load import WorkerFlags, parse_file, resolve
from oz_agent_worker.worker.config.schema import DirectConfig
from tests.integration.worker.backends.harness import WORKER_ENVIRON, Recorder, is_running, task_spec
from tests.timeouts import HANG_TIMEOUT

from .host import Host, entries, run

ROOT = Path(__file__).parents[5]

# Setup command


async def test_the_setup_command_sees_the_workers_environment_without_its_key(host: Host) -> None:
    backend = await host.backend(setup='env -0; pwd; [ "$(pwd -P)" = "$OZ_WORKSPACE_ROOT" ]')
    output = Recorder()
    outcome = await run(backend, task_spec(environment={"A": "1"}), output)
    assert outcome.result is TaskResult.SUCCEEDED
    found = entries(output.data)
    assert (found["WORKER_ONLY"], found["A"]) == (WORKER_ENVIRON["WORKER_ONLY"], "1")
    assert "WARP_API_KEY" not in found


async def test_the_setup_command_can_clone_into_the_workspace(host: Host) -> None:
    source = host.folder / "source"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q", str(source)], ["-C", str(source), "commit", "-qm", "c", "--allow-empty"]):
        subprocess.run([*git, *command], check=True, timeout=HANG_TIMEOUT)
    host.agent("git log --format=%s; git status --short")
    backend, output = await host.backend(setup=f"git clone -q --depth 1 'file://{source}' ."), Recorder()
    outcome = await run(backend, task_spec(harness="claude"), output)
    assert (outcome.result, output.data) == (TaskResult.SUCCEEDED, b"c\n")


async def test_the_example_runs(host: Host) -> None:
    file, problems = parse_file((ROOT / "examples/direct.yaml").read_text(), "direct.yaml")
    config = resolve(WorkerFlags(api_key=Secret("k")), file, problems, {})
    assert problems.found == []
    direct = config.backend
    assert isinstance(direct, DirectConfig)
    assert direct.setup_command is not None
    source = host.folder / "source"
    for name in ("bin/tool", "scripts/upload-artifacts"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (source / name).chmod(0o755)
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "c"]):
        subprocess.run([*git, *command], check=True, timeout=HANG_TIMEOUT)
    host.agent("tool")
    backend, output = (
        await host.backend(
            setup=direct.setup_command.replace("https://example.com/project", f"file://{source}"),
            teardown=direct.teardown_command,
        ),
        Recorder(),
    )
    outcome = await run(backend, task_spec(task_id="run"), output)
    assert outcome.result is TaskResult.SUCCEEDED
    assert output.data == b"bin/tool \nscripts/upload-artifacts run\n"


async def test_what_the_setup_command_exports_reaches_agent_and_teardown(host: Host) -> None:
    exports = r"""printf '# c\nexport A="from\\nsetup"\nB=2\nOZ_RUN_ID=mine\n' > "$OZ_ENVIRONMENT_FILE" """
    show = 'echo "$A/$B/$C/$OZ_RUN_ID"'
    host.agent(show)
    backend, output = await host.backend(setup=exports, teardown=show), Recorder()
    await run(backend, task_spec(task_id="run", environment={"A": "spec", "C": "3"}), output)
    # The task's own variables are not the teardown command's.
    assert output.data == b"from\nsetup/2/3/run\nfrom\nsetup/2//run\n"


@pytest.mark.parametrize(
    ("setup", "message", "code"),
    [
        ("exit 9", "The setup command ended with exit code 9", 9),
        ("kill -KILL $$", "The setup command ended with exit code 137 (SIGKILL)", 137),
        (
            'rm "$OZ_ENVIRONMENT_FILE"; mkfifo "$OZ_ENVIRONMENT_FILE"',
            "The setup command's environment file cannot be read: it is not a regular file",
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


async def test_lines_that_cannot_be_read_are_left_out_and_the_task_runs(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.agent('echo "$A/$D/$GIT_CONFIG_GLOBAL/$CODEX_HOME"')
    lines = ["hidden words", "A='1'", "D: yaml", "B='hidden", "GIT_CONFIG_GLOBAL=/hidden", "CODEX_HOME=/home"]
    backend, output = (
        await host.backend(setup=f'cat > "$OZ_ENVIRONMENT_FILE" <<"X"\n{chr(10).join(lines)}\nX'),
        Recorder(),
    )
    outcome = await run(backend, task_spec(task_id="run", harness="codex"), output)
    assert outcome.result is TaskResult.SUCCEEDED
    a, d, _, rest = output.data.decode().split("/", 3)
    assert (a, d) == ("1", "yaml")
    assert rest.endswith("gitconfig//home\n")
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [w.partition("file, ")[2].partition(": ")[0] for w in warnings] == ["line 1", "line 4", "line 5"]
    assert "line 5: GIT_CONFIG_GLOBAL: the task keeps its own" in warnings[2]
    assert "hidden" not in caplog.text


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
