"""The worker as a process: exit codes, signals, and what it prints."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.programs import environment
from tests.timeouts import HANG_TIMEOUT

from .scripted_plane import PeerConnection, Plane, assignment, plane_on, until

KEY = "canary-key-8f31"


@dataclass
class Ended:
    """A process that has ended, with what it printed."""

    code: int
    text: str


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """An agent that succeeds at once; for a task whose prompt is `wait`, only when it is stopped."""
    path = tmp_path / "oz"
    path.write_text('#!/bin/sh\ncase "$*" in *wait*) exec sleep 3600 ;; esac\necho done\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def config(tmp_path: Path, agent: Path) -> Path:
    """A config file for the direct backend."""
    return _config_file(tmp_path, agent, tmp_path / "workspaces")


def _config_file(folder: Path, agent: Path, workspace_root: Path) -> Path:
    path = folder / "worker.yaml"
    direct = {"workspace_root": str(workspace_root), "oz_path": str(agent)}
    path.write_text(json.dumps({"worker_id": "w", "backend": {"direct": direct}}))
    return path


@contextlib.asynccontextmanager
async def _worker(
    tmp_path: Path, *arguments: str, key: str | None = KEY, path: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker's process; it is gone when the block ends. ``path`` is its PATH."""
    variables = {"WARP_API_KEY": key} if key is not None else {}
    variables |= {"PATH": path} if path is not None else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oz_agent_worker", *arguments,
        env=environment(tmp_path / "state", **variables),
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _end(process: asyncio.subprocess.Process, seconds: float = HANG_TIMEOUT) -> Ended:
    async with asyncio.timeout(seconds):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode())


async def _run(tmp_path: Path, *arguments: str, key: str | None = KEY, path: str | None = None) -> Ended:
    async with _worker(tmp_path, *arguments, key=key, path=path) as process:
        return await _end(process)


async def _answer(connection: PeerConnection) -> None:
    await connection.answer()


# ------------------------------------------------------------------- exit code 2: the usage


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        (
            "worker_id: w\nbackend:\n  direct:\n    workspace_rot: /w\n",
            (),
            "worker.yaml:4: backend.direct.workspace_rot: unknown key `workspace_rot`; "
            "did you mean `workspace_root`?",
        ),
        (
            "worker_id: w\nbackend:\n  direct: {}\n  kubernetes: {}\n",
            (),
            "worker.yaml:3: backend: backend.direct and backend.kubernetes are set, "
            "but a worker has one backend: keep one of them",
        ),
        (
            "worker_id: w\nbackend:\n  kubernetes: {workspace_size_limit: 10 gigs}\n",
            (),
            "worker.yaml:3: backend.kubernetes.workspace_size_limit: read '10 gigs', "
            "allowed is a Kubernetes quantity such as 10Gi or 500M",
        ),
        ("worker_id: warp-1\n", ("--backend", "direct"), "worker ID 'warp-1': IDs that begin with `warp`"),
        (
            "cleanup: true\n",
            ("--backend", "direct"),
            "a worker ID is required: give --worker-id, or worker_id",
        ),
        ("worker_id: w\n", ("--backend", "docker"), "the docker backend is not part of this version"),
        (
            "worker_id: w\nbackend: {command: {dispatch_command: x}}\n",
            (),
            "the command backend is not part of this version",
        ),
        ("a: [", (), "this is not YAML"),
    ],
    ids=["unknown key", "two backends", "quantity", "warp", "no ID", "docker", "command", "no YAML"],
)
async def test_a_configuration_that_cannot_be(
    tmp_path: Path, content: str, arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "worker.yaml").write_text(content)
    ended = await _run(tmp_path, "--config-file", "worker.yaml", *arguments)
    assert ended.code == 2
    assert expected in ended.text
    assert "Traceback" not in ended.text


async def test_a_worker_without_a_key(tmp_path: Path, config: Path) -> None:
    ended = await _run(tmp_path, "--config-file", str(config), key=None)
    assert ended.code == 2
    assert "an API key is required: set WARP_API_KEY (or give --api-key)" in ended.text


async def test_all_problems_are_shown_at_once_and_no_value_of_a_variable(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("cleanup: 5\nbackend: {direct: {environment: [TOKEN=canary]}}\n")
    ended = await _run(tmp_path, "--config-file", "worker.yaml", "-e", "=canary", key=None)
    assert ended.code == 2
    assert "the configuration has 5 problems:" in ended.text
    assert "canary" not in ended.text


async def test_a_config_file_that_is_not_there(tmp_path: Path) -> None:
    ended = await _run(tmp_path, "--config-file", "missing.yaml")
    assert (ended.code, "config file missing.yaml: no such file" in ended.text) == (2, True)


# ------------------------------------------------------ exit codes 3 and 4: backend and key


async def test_a_host_on_which_no_workspace_can_be_made(tmp_path: Path, agent: Path) -> None:
    (tmp_path / "file").write_text("")
    config = _config_file(tmp_path, agent, tmp_path / "file" / "workspaces")
    ended = await _run(tmp_path, "--config-file", str(config))
    assert ended.code == 3
    assert str(tmp_path / "file" / "workspaces") in ended.text
    assert "Traceback" not in ended.text


async def test_a_host_without_an_agent(tmp_path: Path) -> None:
    config = _config_file(tmp_path, tmp_path / "nowhere", tmp_path / "workspaces")
    ended = await _run(tmp_path, "--config-file", str(config))
    assert ended.code == 3
    assert f"{tmp_path / 'nowhere'} does not exist or cannot be executed" in ended.text


def _without_agent(folder: Path) -> tuple[str, ...]:
    """The flags of a worker that has no agent but the bundled one."""
    (folder / "worker.yaml").write_text(
        f"worker_id: w\nbackend: {{direct: {{workspace_root: {folder}/ws}}}}\n"
    )
    return ("--config-file", "worker.yaml")


async def test_a_host_without_an_agent_for_the_public_service(tmp_path: Path) -> None:
    ended = await _run(tmp_path, *_without_agent(tmp_path), path="/nowhere")
    assert ended.code == 3
    assert "no agent: `oz` is not on PATH and backend.direct.oz_path is not set" in ended.text
    assert "wss://oz.warp.dev/api/v1/selfhosted/worker/ws is the public service" in ended.text
    assert "Traceback" not in ended.text


async def test_the_bundled_agent_is_for_a_control_plane_that_names_its_capabilities(tmp_path: Path) -> None:
    async with plane_on(Plane([_answer])) as plane:
        flags = (
            *_without_agent(tmp_path), "--web-socket-url", plane.url, "--server-root-url", "http://127.0.0.1:9"
        )  # fmt: skip
        ended = await _run(tmp_path, *flags, path="/nowhere")
        assert ended.code == 3
        assert "the control plane that answered is another one" in ended.text
        assert "Traceback" not in ended.text
        assert plane.frames == []
        plane.capabilities = "ack, hello, logs"
        async with _worker(tmp_path, *flags, path="/nowhere") as process:
            await until(lambda: plane.frames)
            process.terminate()
            ended = await _end(process)
    assert ended.code == 0
    (line,) = [line for line in ended.text.splitlines() if "Tasks run on this host with" in line]
    assert line.endswith("/oz-agent (the bundled agent, because `oz` is not on PATH)")


async def test_a_refused_key_where_that_shall_end_the_worker(tmp_path: Path, config: Path) -> None:
    async with plane_on(Plane([401])) as plane:
        ended = await _run(
            tmp_path, "--config-file", str(config), "--web-socket-url", plane.url, "--exit-on-auth-failure"
        )
    assert ended.code == 4
    assert f"the control plane at {plane.url} refused the API key (HTTP 401)" in ended.text
    assert KEY not in ended.text
    assert "Traceback" not in ended.text


async def test_a_refused_key_is_retried_by_default(tmp_path: Path, config: Path) -> None:
    async with plane_on(Plane([403])) as plane:
        arguments = ("--config-file", str(config), "--web-socket-url", plane.url)
        async with _worker(tmp_path, *arguments) as process:
            await until(lambda: plane.requests)
            process.send_signal(signal.SIGTERM)
            ended = await _end(process, 10.0)
    assert ended.code == 0
    assert "refused the API key (HTTP 403)" in ended.text
    assert "; next try in " in ended.text  # 60 s, or 1 s where the signal came first


# ---------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_idle_worker_well(
    tmp_path: Path, config: Path, number: signal.Signals
) -> None:
    async with plane_on(Plane([_answer])) as plane:
        arguments = ("--config-file", str(config), "--web-socket-url", plane.url)
        async with _worker(tmp_path, *arguments) as process:
            await until(lambda: plane.connections)
            process.send_signal(number)
            ended = await _end(process, 5.0)
    assert ended.code == 0
    printed = [line.split(maxsplit=2)[2] for line in ended.text.splitlines()]
    assert printed[-2:] == [f"{number.name}: shutting down (send it again to exit at once)", "Stopped"]
    assert f"Connected to Oz at {plane.url}" in printed
    assert "Listening for tasks" in printed


async def test_a_signal_ends_a_worker_that_has_no_control_plane(tmp_path: Path, config: Path) -> None:
    async with _worker(
        tmp_path, "--config-file", str(config), "--web-socket-url", "ws://127.0.0.1:9/ws"
    ) as process:
        assert process.stdout is not None
        async with asyncio.timeout(HANG_TIMEOUT):
            while b"cannot be reached" not in await process.stdout.readline():
                pass
        process.terminate()
        assert (await _end(process, 5.0)).code == 0


async def test_a_signal_ends_the_tasks_of_this_host_and_reports_them(tmp_path: Path, config: Path) -> None:
    async def script(connection: PeerConnection) -> None:
        await connection.send("task_assignment", **assignment(additional_oz_args=["wait"]))
        await connection.answer()

    async with plane_on(Plane([script])) as plane:
        arguments = ("--config-file", str(config), "--web-socket-url", plane.url)
        async with _worker(tmp_path, *arguments) as process:
            await until(lambda: plane.frames)
            process.terminate()
            ended = await _end(process, 15.0)
    assert ended.code == 0
    claim, failure = (json.loads(frame) for frame in plane.frames)
    assert claim == {"type": "task_claimed", "data": {"task_id": "run-1", "worker_id": "w"}}
    assert failure == {
        "type": "task_failed",
        "data": {
            "task_id": "run-1",
            "message": "The worker was shut down while the task ran",
            "failure_reason": "graceful_shutdown",
        },
    }


# ---------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("capabilities", [None, "ack, hello, logs"])
async def test_a_whole_run_at_debug_level_prints_no_secret(
    tmp_path: Path, config: Path, capabilities: str | None
) -> None:
    malformed = '{"type": "task_assignment", "data": "canary-frame"}'
    secrets: dict[str, Any] = {
        "env_vars": {"TOKEN": "canary-env"},
        "additional_oz_args": ["--token", "canary-argument"],
    }
    snapshot = {"mcp_servers": {"a": {"headers": {"Authorization": "canary-mcp"}}}}
    task = {"id": "run-1", "task_definition": {"prompt": "canary-prompt"}, "agent_config_snapshot": snapshot}
    ended_runs: set[str] = set()

    async def script(connection: PeerConnection) -> None:
        await connection.socket.send_str(malformed)
        await connection.socket.send_str("canary-garbage")
        await connection.send("novelty", secret="canary-novelty")
        await connection.send("task_assignment", task_id="run-0", env_vars=["canary-field"])
        await connection.send("task_assignment", **assignment(task=task, **secrets))
        await connection.send("task_assignment", **assignment("no/folder", task=task, **secrets))
        while True:
            frame = await connection.receive_frame()
            if frame["type"] in {"task_completed", "task_failed"}:
                ended_runs.add(f"{frame['data']['task_id']} {frame['type']}")
                await connection.send("ack", ack_id=frame["data"].get("ack_id", "canary-ack"))

    async with plane_on(Plane([script], capabilities)) as plane:
        arguments = (
            "--config-file", str(config), "--web-socket-url", plane.url, "--log-level", "debug",
            "-e", "OWN=canary-flag",
        )  # fmt: skip
        async with _worker(tmp_path, *arguments) as process:
            await until(lambda: len(ended_runs) == 3, 20.0)
            process.terminate()
            ended = await _end(process, 10.0)
    assert ended_runs == {"run-0 task_failed", "run-1 task_completed", "no/folder task_failed"}
    assert ended.code == 0
    assert f"is ignored: type task_assignment, {len(malformed)} bytes" in ended.text
    assert "Task run-1/run-1-e1 succeeded" in ended.text
    assert "canary" not in ended.text.replace(str(tmp_path), "")
