import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.errors import StartError
from tests.cluster.processes import SERVER_PORTS, Child, free_ports
from tests.timeouts import HANG_TIMEOUT


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait for its new parent to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def test_the_end_of_the_log_shows_why_a_program_did_not_start(tmp_path: Path) -> None:
    child = Child(["/bin/sh", "-c", "echo no such flag; exit 1"], tmp_path / "log")
    child.start()
    with pytest.raises(StartError, match="no such flag"):
        child.wait_until(lambda: False, timeout=HANG_TIMEOUT)
    child.stop()


def test_stop_kills_what_ignores_a_request_to_end(tmp_path: Path) -> None:
    child = Child(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], tmp_path / "log"
    )
    child.start()
    child.wait_until(lambda: "ready" in child.tail(), timeout=HANG_TIMEOUT)
    pid = child.pid
    assert pid is not None
    child.stop(grace=0.05)
    assert child.pid is None
    assert not is_alive(pid)


def test_a_child_may_be_started_again(tmp_path: Path) -> None:
    child = Child(["/bin/sh", "-c", "echo started; exec sleep 60"], tmp_path / "log")
    for times in (1, 2):
        child.start()
        child.wait_until(lambda times=times: child.tail().count("started") == times, timeout=HANG_TIMEOUT)  # type: ignore[misc]
        child.stop(grace=0)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_killed_parent_leaves_no_children(tmp_path: Path) -> None:
    program = (
        "import pathlib, time; from tests.cluster.processes import Child\n"
        f"child = Child(['sleep', '60'], pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
        deadline = time.monotonic() + HANG_TIMEOUT
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not is_alive(pid)


def test_ports_are_different_and_none_that_a_client_is_given() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port in SERVER_PORTS for port in ports)
