"""A worker that dies, as real processes: control plane, worker, agent, and the worker after it."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.programs import BIN, ControlPlane, Program, environment, oz, program, worker
from tests.integration.worker.backends.harness import Scratch, is_running
from tests.timeouts import HANG_TIMEOUT

from .host import journalled

HOLDING = (
    "note starts again; setsid sh -c 'echo $$ >> \"$1\"; exec sleep 300' - $scratch/child & note agent $$"
)


class Site:
    """A control plane that can be away, and a host whose workers share a workspace root."""

    def __init__(self, folder: Path) -> None:
        self._state = folder
        self.root = folder / "ws"
        (folder / "scratch").mkdir()
        self.scratch = Scratch(folder / "scratch")
        self._agent = folder / "agent"
        self._config = folder / "worker.json"
        self._key = oz("control-plane", "create-key", "tests", env=environment(folder)).stdout.strip()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    def agent(self, script: str) -> None:
        """Decide what the agent does; the teardown command leaves a note."""
        self._agent.write_text(f"#!/bin/sh\n{self.scratch.script(script)}")
        self._agent.chmod(0o755)
        teardown = self.scratch.script("note teardown ran")
        direct = {"workspace_root": str(self.root), "oz_path": str(self._agent), "teardown_command": teardown}
        self._config.write_text(json.dumps({"backend": {"direct": direct}}))

    @contextmanager
    def control_plane(self) -> Iterator[ControlPlane]:
        """Serve the control plane at its place, with what it knew before."""
        command = [str(BIN / "oz-agent-worker"), "control-plane", "--port", str(self._port)]
        with program(command, environment(self._state)) as running:
            running.wait_for("Workers connect to")
            yield ControlPlane(running, f"http://127.0.0.1:{self._port}", self._key, self._state)

    @contextmanager
    def worker(self, plane: ControlPlane) -> Iterator[Program]:
        """Run a worker over the workspace root."""
        with worker(plane, "--config-file", str(self._config)) as running:
            yield running

    def left(self) -> list[str]:
        """Name the workspaces and records that exist."""
        return [place.name for place in [*self.root.glob("[!.]*"), *journalled(self.root)]]

    def outcome_is_written(self) -> bool:
        """Whether the one record has the outcome of its task."""
        (record,) = self.root.glob(".journal-*/*.json")
        return json.loads(record.read_bytes())["outcome"] is not None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def until(holds: Callable[[], bool], what: str, timeout: float = HANG_TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about in {timeout:.0f} s"
        time.sleep(0.05)


def submit(plane: ControlPlane) -> str:
    run_id: str = json.loads(plane.oz("run", "work", "-o", "json").stdout)["run_id"]
    return run_id


def ending(plane: ControlPlane) -> dict[str, Any]:
    """Wait until the one run has ended, and give it."""
    states = ("SUCCEEDED", "FAILED", "ERROR", "CANCELLED")
    until(lambda: plane.runs()[0]["state"] in states, "the run's end")
    (run,) = plane.runs()
    return run


def kill(running: Program) -> None:
    running.process.kill()
    running.process.wait()


def noted(site: Site, name: str) -> str:
    until(lambda: bool(site.scratch.lines(name)), name)
    return site.scratch.lines(name)[0]


def test_a_killed_workers_task_is_ended_reported_and_cleaned_up_by_the_next(site: Site) -> None:
    site.agent(f"{HOLDING}; hold never")
    with site.control_plane() as plane:
        with site.worker(plane) as first:
            submit(plane)
            pids = [noted(site, "agent"), noted(site, "child")]
            kill(first)
        assert all(map(is_running, pids))
        with site.worker(plane):
            run = ending(plane)
            assert not any(map(is_running, pids))
            until(lambda: site.left() == [], "the removal of what was left")
        assert run["state"] == "ERROR"
        assert run["status_message"]["error_code"] == "worker_lost"
        assert run["status_message"]["retryable"] is True
        assert site.scratch.lines("starts") == ["again"]
        assert site.scratch.lines("teardown") == ["ran"]


def test_an_undelivered_outcome_is_reported_by_the_next_worker(site: Site) -> None:
    site.agent("note starts again; note agent $$; hold go; exit 7")
    with ExitStack() as workers:
        with site.control_plane() as plane:
            first = workers.enter_context(site.worker(plane))
            submit(plane)
            noted(site, "agent")
        site.scratch.note("go")
        until(site.outcome_is_written, "the outcome in the journal")
        kill(first)
    with site.control_plane() as plane, site.worker(plane):
        run = ending(plane)
        until(lambda: site.left() == [], "the removal of what was left")
    assert run["state"] == "FAILED"
    assert "exit code 7" in run["status_message"]["message"]
    assert site.scratch.lines("starts") == ["again"]
    assert site.scratch.lines("teardown") == ["ran"]


def test_what_a_worker_could_not_report_when_it_shut_down_arrives_through_the_next(site: Site) -> None:
    site.agent(f"{HOLDING}; hold never")
    with ExitStack() as workers:
        with site.control_plane() as plane:
            first = workers.enter_context(site.worker(plane))
            submit(plane)
            pids = [noted(site, "agent"), noted(site, "child")]
        first.process.send_signal(signal.SIGTERM)
        until(site.outcome_is_written, "the outcome in the journal")
        first.process.send_signal(signal.SIGTERM)  # its operator does not wait for the control plane
        first.process.wait()
    assert not any(map(is_running, pids))
    with site.control_plane() as plane, site.worker(plane):
        run = ending(plane)
        until(lambda: site.left() == [], "the removal of what was left")
    assert run["state"] == "ERROR"
    assert run["status_message"]["error_code"] == "graceful_shutdown"
    assert site.scratch.lines("starts") == ["again"]


def test_of_two_workers_over_one_root_the_one_that_lives_ends_the_others_task(site: Site) -> None:
    site.agent(f"{HOLDING}; hold never")
    with site.control_plane() as plane, site.worker(plane) as first:
        submit(plane)
        pids = [noted(site, "agent"), noted(site, "child")]
        with site.worker(plane) as second:
            assert "left by a worker" not in second.text
            until(lambda: plane.program.text.count("said hello") == 2, "the second worker's hello")
            assert "is dead" not in plane.program.text, "neither takes the other's place"
            assert all(map(is_running, pids))
            kill(first)
            run = ending(plane)
            until(lambda: site.left() == [], "the removal of what was left")
    assert run["status_message"]["error_code"] == "worker_lost"
    assert not any(map(is_running, pids))
    assert site.scratch.lines("starts") == ["again"]
