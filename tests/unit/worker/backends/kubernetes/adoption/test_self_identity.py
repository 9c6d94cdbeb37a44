import os
import subprocess
import sys
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.kubernetes.adoption.decision import Liveness, process_liveness
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import UNAVAILABLE, parse_instance
from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import (
    process_started,
    this_machine,
    this_process,
)
from tests.timeouts import HANG_TIMEOUT

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_this_process_is_named_and_read_back() -> None:
    own = this_process(this_machine())
    assert own.pid == os.getpid()
    assert parse_instance(str(own)) == own


@linux
def test_this_process_is_alive_and_the_same_whenever_it_is_asked() -> None:
    machine = this_machine()
    own = this_process(machine)
    assert own == this_process(machine)
    assert process_liveness(own, machine, process_started(own.pid)) is Liveness.ALIVE


@linux
def test_a_process_that_was_killed_is_gone_before_anybody_has_waited_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert process_started(child.pid) not in (None, UNAVAILABLE)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, and still listed
        assert process_started(child.pid) is None
    finally:
        child.kill()
        child.communicate()
    assert process_started(child.pid) is None


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace")
def test_a_live_process_is_not_gone_because_another_pid_namespace_does_not_show_it() -> None:
    """As a worker in a container beside one on its host, with the host's name."""
    own = this_process(this_machine())
    code = (
        "import sys;"
        "from oz_agent_worker.worker.backends.kubernetes.adoption import decision, instance, self_identity;"
        "owner = instance.parse_instance(sys.argv[1]);"
        "started = self_identity.process_started(owner.pid);"
        "print(decision.process_liveness(owner, self_identity.this_machine(), started).name)"
    )
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code, str(own)]
    there = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_TIMEOUT, check=False)
    if "unshare" in there.stderr:
        pytest.skip(f"no PID namespace to be had: {there.stderr.strip()}")
    assert there.stdout == "UNKNOWN\n", there.stderr


def proc(folder: Path, stat: str) -> Path:
    for name in ("self", "7"):
        (folder / name).mkdir()
        (folder / name / "stat").write_text(stat)
    return folder


def test_a_command_may_be_named_anything(tmp_path: Path) -> None:
    fields = " ".join(str(n) for n in range(4, 53))
    assert process_started(7, proc(tmp_path, f"7 (a) Z (b) S {fields}\n")) == "22"


def test_without_proc_a_process_is_known_by_its_id_alone(tmp_path: Path) -> None:
    assert process_started(os.getpid(), tmp_path) == UNAVAILABLE
    assert process_started(2**22 + 1, tmp_path) is None
    machine = this_machine(tmp_path)
    assert (machine.boot, machine.pid_namespace) == (UNAVAILABLE, UNAVAILABLE)
    first, second = this_process(machine, tmp_path), this_process(machine, tmp_path)
    assert first != second
    assert parse_instance(str(first)) == first
