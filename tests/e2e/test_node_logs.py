"""A task's output while connections break, with the records and the errors of a real kubelet."""

import time
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.frames import TaskCompleted
from tests.cluster.node_tier import NodeTier
from tests.timeouts import HANG_TIMEOUT

from .conftest import Report
from .peer import Peer
from .tasks import config_file, process_of, script_task, worker_of

pytestmark = pytest.mark.node

ERROR = "failed to create fsnotify watcher: too many open files"
WAIT = "while [ ! -e go ]; do sleep 0.2; done; rm go"


def go(task: str) -> None:
    """Let a task's script go on that waits for it."""
    Path(f"/proc/{process_of(task)}/root/workspace/go").touch()


def break_streams(tier: NodeTier) -> None:
    """Restart the API server: those who follow logs have to ask again."""
    tier.api.stop_apiserver()
    tier.api.start_apiserver()


def test_a_line_that_grows_over_seconds_is_there_once(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    """K2: pieces of one line of 160 kB, and connections that break in it and after it."""
    letters = "abcdefgh"
    script = (
        f"for c in {' '.join(letters)}; do dd if=/dev/zero bs=20000 count=1 2>/dev/null | tr '\\0' $c; "
        f"sleep 0.7; done; echo; echo next; {WAIT}; echo last"
    )
    with worker_of(peer, config_file(node_tier, namespace, tmp_path)):
        began = time.monotonic()
        task = peer.assign(script_task(script))
        peer.wait_for_output(task, "ccc", HANG_TIMEOUT)
        break_streams(node_tier)
        peer.wait_for_output(task, "next\n", HANG_TIMEOUT)
        break_streams(node_tier)
        go(task)
        ending = peer.ending(task, HANG_TIMEOUT)
    report("a line that grows over seconds", ending, began)
    assert isinstance(ending, TaskCompleted), ending
    assert peer.output(task) == "".join(letter * 20_000 for letter in letters) + "\nnext\nlast\n"


def test_the_kubelets_errors_are_a_note_and_no_output(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    """K3: the log file is away for a while, and the task prints such an error itself."""
    client = node_tier.api.client()
    with worker_of(peer, config_file(node_tier, namespace, tmp_path)):
        began = time.monotonic()
        task = peer.assign(script_task(f"echo '{ERROR}'; echo begun; {WAIT}; echo done; {WAIT}"))
        peer.wait_for_output(task, "begun\n", HANG_TIMEOUT)
        listed: Any = client.get(f"/api/v1/namespaces/{namespace}/pods")
        (pod,) = (pod["metadata"] for pod in listed["items"] if task in pod["metadata"]["name"])
        folder = node_tier.layout.root / "pod-logs" / f"{namespace}_{pod['name']}_{pod['uid']}" / "task"
        log, away = folder / "0.log", folder / "away"
        # An absent file would be made again by the kubelet; a folder in its place is left alone.
        log.rename(away)
        log.mkdir()
        break_streams(node_tier)
        peer.wait_for_output(
            task, "the kubelet broke off the log, which is read again: failed to ", HANG_TIMEOUT
        )
        log.rmdir()
        away.rename(log)
        go(task)
        peer.wait_for_output(task, "\ndone\n", HANG_TIMEOUT)
        go(task)
        ending = peer.ending(task, HANG_TIMEOUT)
    report("a log file that is away for a while", ending, began)
    assert isinstance(ending, TaskCompleted), ending
    lines = peer.output(task).splitlines()
    notes = [line for line in lines if line.startswith("[oz-agent-worker: ")]
    assert [line for line in lines if line not in notes] == [ERROR, "begun", "done"]
    assert sum("which is read again" in note for note in notes) == 1
    assert sum(" times: failed to " in note for note in notes) == len(notes) - 1
