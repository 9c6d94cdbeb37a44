"""Signals, live output, and processes that must not be left behind."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.timeouts import HANG_TIMEOUT

from .conftest import Agent, StartAgent
from .control_plane import Answer, ControlPlane


def read_line(agent: Agent) -> str:
    """Read one line of the agent's stdout while it runs."""
    assert agent.stdout is not None
    ready, _, _ = select.select([agent.stdout], [], [], HANG_TIMEOUT)
    assert ready, "no output within 30 s"
    return agent.stdout.readline().decode().strip()


def gone(pid: int) -> bool:
    """Wait until a process has ended; a zombie has."""
    for _ in range(500):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_output_is_live(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("trap 'echo second; exit 0' USR1\necho first\nwhile :; do sleep 0.05; done")
    agent = start_agent()
    assert read_line(agent) == "first"
    assert agent.poll() is None
    agent.send_signal(signal.SIGUSR1)
    assert read_line(agent) == "second"
    assert agent.wait(HANG_TIMEOUT) == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_passed_on(start_agent: StartAgent, control_plane: ControlPlane, name: str) -> None:
    # Python, since a shell cannot trap a signal that was ignored when it started.
    control_plane.offer(
        f"#!/usr/bin/env python3\nimport signal, sys\n"
        f"signal.signal(signal.SIG{name}, lambda *_: sys.exit(7))\nprint('ready')\n"
        f"while True:\n    signal.pause()\n"
    )
    agent = start_agent()
    assert read_line(agent) == "ready"
    agent.send_signal(getattr(signal, f"SIG{name}"))
    assert agent.wait(HANG_TIMEOUT) == 7


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_the_harness_s_end_by_a_signal_is_seen(
    start_agent: StartAgent, control_plane: ControlPlane, signum: signal.Signals
) -> None:
    control_plane.offer(f"ulimit -c 0; kill -{signum.value} $$")
    agent = start_agent()
    _, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 128 + signum
    assert f"the harness was ended by {signum.name}" in err.decode()


def test_a_harness_that_ignores_sigterm_is_killed_after_the_grace(
    start_agent: StartAgent, control_plane: ControlPlane
) -> None:
    control_plane.offer("trap '' TERM\nsleep 600 &\necho $!\nwhile :; do sleep 0.05; done")
    agent = start_agent(OZ_AGENT_GRACE_SECONDS="0.3")
    child = int(read_line(agent))
    start = time.monotonic()
    agent.terminate()
    _, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 128 + signal.SIGKILL
    assert time.monotonic() - start >= 0.3
    assert b"SIGTERM passed on; the harness has 0.3 s to end" in err
    assert b"killed" in err
    assert gone(child)


def test_sigterm_gives_the_whole_process_group_the_grace_period(
    start_agent: StartAgent, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """A shell dies at once; the program that it waited for tidies up."""
    done = tmp_path / "done"
    program = tmp_path / "slow"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, sys, time\n"
        "def tidy(*_):\n    time.sleep(0.3)\n"
        f"    pathlib.Path({str(done)!r}).touch()\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, tidy)\nprint('ready', flush=True)\n"
        "while True:\n    signal.pause()\n"
    )
    program.chmod(0o755)
    control_plane.offer(f"{program}\necho never")
    agent = start_agent()
    assert read_line(agent) == "ready"
    agent.terminate()
    assert agent.wait(HANG_TIMEOUT) == 128 + signal.SIGTERM
    assert done.exists()


def test_no_process_is_left_behind(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer(
        "sleep 600 & echo $!\n"
        "setsid sh -c 'echo $$; : >ready; trap \"\" TERM; sleep 600 & wait' &\n"
        "while [ ! -e ready ]; do sleep 0.01; done\n"
        "echo end; exit 3"
    )
    agent = start_agent()
    in_group, outside = int(read_line(agent)), int(read_line(agent))
    assert read_line(agent) == "end"
    assert agent.wait(HANG_TIMEOUT) == 3
    assert gone(in_group)
    assert gone(outside)


def test_the_harness_dies_with_an_agent_that_is_killed(
    start_agent: StartAgent, control_plane: ControlPlane
) -> None:
    control_plane.offer("trap '' TERM HUP\nsleep 600 & echo $$ $!\nwait")
    agent = start_agent()
    harness, child = map(int, read_line(agent).split())
    agent.kill()
    agent.wait(HANG_TIMEOUT)
    assert gone(harness)
    assert gone(child)


def test_the_reader_of_the_output_sees_its_end(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("sleep 600 & echo started")
    agent = start_agent()
    out, _ = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (0, b"started\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_agent_while_it_waits_for_its_run(
    start_agent: StartAgent, control_plane: ControlPlane, signum: signal.Signals
) -> None:
    control_plane.answers = [Answer(503, headers={"Retry-After": "30"})]
    agent = start_agent(OZ_AGENT_FETCH_SECONDS="600")
    assert agent.stderr is not None
    assert b"trying again" in agent.stderr.readline()
    agent.send_signal(signum)
    _, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 128 + signum
    assert err.decode() == f"oz-agent: ended by {signum.name} before the harness was started\n"


def test_a_long_line_and_much_output(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("head -c 8388608 /dev/zero")
    agent = start_agent()
    out, _ = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (0, bytes(8388608))


@pytest.mark.skipif(os.getuid() != 0, reason="a process namespace of its own takes root")
def test_as_process_1_it_reaps_and_ends_on_sigterm(
    start_agent: StartAgent, control_plane: ControlPlane, programs: Path
) -> None:
    """Process 1 gets no signal that it has no handler for, and inherits every orphan."""
    probe = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip(f"unshare: {probe.stderr.decode().strip()}")
    wrapper = programs / "as-process-1"
    wrapper.write_text(
        f'#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    control_plane.offer(
        "for n in 1 2 3; do (sleep 0.01 &); done\n"
        # A zombie is listed as long as nobody reaps it.
        "until ! grep -qs '(sleep)' /proc/[0-9]*/stat; do read -r _ </proc/uptime; done\n"
        "echo $PPID $(cat /proc/1/comm)\n"
        "exec sleep 600"
    )
    agent = start_agent(interpreter=str(wrapper))
    assert read_line(agent).startswith("1 python")
    inside = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text(encoding="ascii").split()
    os.kill(int(inside[0]), signal.SIGTERM)
    assert agent.wait(HANG_TIMEOUT) == 128 + signal.SIGTERM
