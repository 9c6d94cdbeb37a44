"""How tasks end on a real node, and what the worker says of it: the table, and what needs a hand."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.core.wire import TaskCompleted, TaskFailed
from tests.cluster.node.registry import EmptyRegistry
from tests.cluster.nodetier import NodeTier
from tests.cluster.rest import wait_for
from tests.e2e.cases import DRESSED, LIMITED, Case, dressed_cases, limited_cases
from tests.e2e.conftest import Report, temporary_namespace
from tests.e2e.peer import Ending, Peer
from tests.e2e.tasks import config_file, processes_of, script_task, send_signal, worker_of

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]

GRACE = 35.0
"""How long a cancelled task's processes may go on, in seconds: a Pod's grace period, and what it takes."""


def by_name(case: Case) -> str:
    return case.name


@pytest.fixture(scope="module")
def limited(node_tier: NodeTier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    yield from _shared_worker(node_tier, tmp_path_factory.mktemp("limited"), **LIMITED)


@pytest.fixture(scope="module")
def dressed(node_tier: NodeTier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    yield from _shared_worker(node_tier, tmp_path_factory.mktemp("dressed"), **DRESSED)


def _shared_worker(node_tier: NodeTier, folder: Path, **section: Any) -> Iterator[Peer]:
    with temporary_namespace(node_tier) as namespace:
        config = config_file(node_tier, namespace, folder, **section)
        with Peer() as peer, worker_of(peer, config):
            yield peer


@pytest.mark.parametrize("case", limited_cases(), ids=by_name)
def test_a_task_with_little_room(limited: Peer, case: Case, report: Report) -> None:
    run(limited, case, report)


@pytest.mark.parametrize("case", dressed_cases(), ids=by_name)
def test_a_task_with_commands_around_it(dressed: Peer, case: Case, report: Report) -> None:
    run(dressed, case, report)


def run(peer: Peer, case: Case, report: Report) -> None:
    """Assign the case's task, and compare its report."""
    began = time.monotonic()
    task = peer.assign(case.task)
    ending = peer.ending(task, 90)
    report(case.name, ending, began)
    check(ending, case.reason, case.exit_code, *case.words)
    if case.output is not None:
        assert peer.output(task) == case.output


def check(ending: Ending, reason: str | None, exit_code: int = 0, *words: str) -> None:
    """Compare a report: its reason, exit code, and what its message must say."""
    if reason is None:
        assert isinstance(ending, TaskCompleted), ending
        assert ending.task_state is None, ending
        return
    assert isinstance(ending, TaskFailed), ending
    assert (ending.failure_reason, ending.exit_code) == (reason, exit_code), ending.message
    for word in words:
        assert word in ending.message


def test_an_image_that_its_registry_does_not_have(limited: Peer, report: Report) -> None:
    with EmptyRegistry() as registry:
        began = time.monotonic()
        image = registry.image("missing:1")
        ending = limited.ending(limited.assign(script_task("exit 0", image=image)), 60)
    report("missing image", ending, began)
    check(ending, "image_pull", 0, image, "not found")


def test_a_signal_from_outside(limited: Peer, report: Report) -> None:
    began = time.monotonic()
    task = limited.assign(script_task("echo working; exec sleep 300"))
    send_signal(the_process_of(task), signal.SIGKILL)
    ending = limited.ending(task, 60)
    report("a signal from outside", ending, began)
    check(ending, "container_exit", 137, "SIGKILL")


def test_the_deadline(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    config = config_file(node_tier, namespace, tmp_path, active_deadline_seconds=8)
    with worker_of(peer, config):
        began = time.monotonic()
        task = peer.assign(script_task("trap 'exit 0' TERM; sleep 300 & wait $!"))
        ending = peer.ending(task, 60)
    report("deadline", ending, began)
    check(ending, "active_deadline", 0, "active_deadline_seconds")


@pytest.mark.parametrize(
    ("agent", "case"),
    [
        ("trap 'exit 0' TERM; echo ready; sleep 300 & wait $!", "cancelled: an agent that listens"),
        ("trap '' TERM; echo ready; while :; do sleep 1; done", "cancelled: an agent that does not"),
    ],
    ids=["polite", "deaf"],
)
def test_a_cancellation_ends_the_process(limited: Peer, agent: str, case: str, report: Report) -> None:
    task = limited.assign(script_task(agent))
    the_process_of(task)
    began = time.monotonic()
    limited.cancel(task)
    ending = limited.ending(task, 60)
    report(case, ending, began)
    assert ending.task_state == "CANCELLED"
    wait_for("the end of its processes", lambda: processes_of(task) == [], timeout=GRACE)
    assert time.monotonic() - began < GRACE


def the_process_of(task: str) -> int:
    """Wait until the task's agent runs; return its first process."""
    wait_for("the task's processes", lambda: processes_of(task) != [], timeout=60)
    return processes_of(task)[0]
