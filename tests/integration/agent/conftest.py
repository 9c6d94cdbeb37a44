import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .control_plane import RUN_ID, TOKEN, ControlPlane, serving

Agent = subprocess.Popen[bytes]
StartAgent = Callable[..., Agent]


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    with serving() as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The first directory of the agent's PATH."""
    directory = tmp_path / "programs"
    directory.mkdir()
    return directory


@pytest.fixture
def start_agent(control_plane: ControlPlane, tmp_path: Path, programs: Path) -> Iterator[StartAgent]:
    """Start ``python -m oz_agent_worker.agent agent run …`` as the direct backend does."""
    started: list[Agent] = []
    workspace = tmp_path / "workspace"
    scratch = tmp_path / "tmp"
    workspace.mkdir()
    scratch.mkdir()

    def start(*arguments: str, interpreter: str = sys.executable, **variables: str) -> Agent:
        environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(scratch),
            "WARP_API_KEY": TOKEN,
            "OZ_AGENT_FETCH_SECONDS": "5",
            "OZ_AGENT_GRACE_SECONDS": "20",
            **variables,
        }
        argv = ["--task-id", RUN_ID, "--sandboxed", "--server-root-url", control_plane.url, *arguments]
        # Under nohup the agent would ignore SIGHUP, as it should.
        nohup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            agent = subprocess.Popen(
                [interpreter, "-m", "oz_agent_worker.agent", "agent", "run", *argv],
                cwd=workspace,
                env={name: value for name, value in environment.items() if value},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGHUP, nohup)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.kill()
        agent.wait()
        # Not read to its end: a harness that was left behind would hold it open.
        for stream in (agent.stdout, agent.stderr):
            if stream is not None:
                stream.close()
    assert not list(scratch.iterdir()) or any(agent.returncode < 0 for agent in started), "scratch was left"
