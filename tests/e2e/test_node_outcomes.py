"""How tasks end on a real node, and what the worker says of it: the table, and what needs a hand."""

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed
from tests.cluster.node.images import Image, busybox_layer
from tests.cluster.node.registry import Registry
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for
from tests.timeouts import HANG_TIMEOUT

from .cases import DRESSED, LIMITED, Case, dressed_cases, limited_cases
from .ledger import Ledger
from .peer import Ending, Peer
from .site import Site, running_site, temporary_namespace
from .tasks import process_of, processes_of, script_task, send_signal

pytestmark = pytest.mark.node

CANCELLATION: Final = HANG_TIMEOUT
"""How long a cancelled task's processes may go on, in seconds: by themselves they go on for 300."""

LISTENS: Final = "trap 'exit 0' TERM; sleep 300 & wait $!"
DEAF: Final = "trap '' TERM; while :; do sleep 1; done"

LIMITED_CASES: Final = limited_cases()
DRESSED_CASES: Final = dressed_cases()


@dataclass(frozen=True, slots=True)
class CaseRun:
    """A worker that has been given all cases of a table at once; ``tasks`` are their IDs by name.

    ``deaf`` is a task that has been cancelled and does not hear it, as it will have ended: what
    takes half a minute goes on beside the other tests.
    """

    site: Site
    tasks: dict[str, str]
    deaf: "Future[Cancelled]"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A task's report, and the seconds from its cancellation to the end of its last process."""

    ending: Ending
    seconds: float


@contextmanager
def case_run(tier: NodeTier, folder: Path, cases: Sequence[Case], section: Any) -> Iterator[CaseRun]:
    """Run a worker and assign it the cases."""
    with (
        temporary_namespace(tier) as namespace,
        running_site(tier, namespace, folder, **section) as site,
        ThreadPoolExecutor(1, "deaf") as beside,
    ):
        tasks = {case.name: site.peer.assign(case.task) for case in cases}
        yield CaseRun(site, tasks, beside.submit(cancel, site.peer, DEAF))


def cancel(peer: Peer, script: str) -> Cancelled:
    """Run a script, cancel it once it runs, and wait for the end of its processes."""
    task = peer.assign(script_task(script))
    process_of(task)
    began = time.monotonic()
    peer.cancel(task)
    ending = peer.ending(task)
    wait_for("the end of its processes", lambda: processes_of(task) == [], timeout=CANCELLATION + 5)
    return Cancelled(ending, time.monotonic() - began)


@pytest.fixture(scope="module")
def limited(node_tier: NodeTier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseRun]:
    with case_run(node_tier, tmp_path_factory.mktemp("limited"), LIMITED_CASES, LIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def dressed(node_tier: NodeTier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseRun]:
    with case_run(node_tier, tmp_path_factory.mktemp("dressed"), DRESSED_CASES, DRESSED) as running:
        yield running


@pytest.mark.parametrize("case", LIMITED_CASES, ids=lambda case: case.name)
def test_a_task_with_little_room(limited: CaseRun, case: Case, ledger: Ledger) -> None:
    check_case(limited, case, ledger)


@pytest.mark.parametrize("case", DRESSED_CASES, ids=lambda case: case.name)
def test_a_task_with_commands_around_it(dressed: CaseRun, case: Case, ledger: Ledger) -> None:
    check_case(dressed, case, ledger)


def check_case(at: CaseRun, case: Case, ledger: Ledger) -> None:
    """Wait for the case's report, and compare it."""
    peer, task = at.site.peer, at.tasks[case.name]
    ending = peer.ending(task, HANG_TIMEOUT)
    ledger.report(case.name, ending, peer.seconds(task))
    check(ending, case.reason, case.exit_code, *case.message_parts)
    if case.output is not None:
        assert peer.output(task) == case.output


def check(ending: Ending, reason: str | None, exit_code: int | None = None, *message_parts: str) -> None:
    """Compare a report: its reason, exit code, and what its message must say."""
    if reason is None:
        assert isinstance(ending, TaskCompleted), ending
        assert ending.task_state is None, ending
        return
    assert isinstance(ending, TaskFailed), ending
    assert (ending.failure_reason, ending.exit_code) == (reason, exit_code), ending.message
    for part in message_parts:
        assert part in ending.message


def test_an_image_that_its_registry_does_not_have(limited: CaseRun, ledger: Ledger) -> None:
    peer = limited.site.peer
    with Registry() as registry:
        image = registry.reference("missing:1")
        task = peer.assign(script_task("exit 0", image=image))
        ending = peer.ending(task)
    ledger.report("missing image", ending, peer.seconds(task))
    check(ending, "image_pull", None, image, "not found")


def test_a_registry_that_comes_back(limited: CaseRun, node_tier: NodeTier, ledger: Ledger) -> None:
    peer = limited.site.peer
    # An environment of its own makes it another image. The kubelet knows what it has pulled by
    # content, and would not use the same content under a name that is not pulled (1.35 and newer:
    # KubeletEnsureSecretPulledImages).
    image = Image("late:1", [busybox_layer(node_tier.busybox)], environment={"PATH": "/bin", "LATE": "1"})
    with Registry([image], failures=1) as registry:
        task = peer.assign(script_task("echo here", image=registry.reference("late:1")))
        ending = peer.ending(task)
    ledger.report("a registry that comes back", ending, peer.seconds(task))
    check(ending, None)


def test_a_signal_from_outside(limited: CaseRun, ledger: Ledger) -> None:
    peer = limited.site.peer
    task = peer.assign(script_task("exec sleep 300"))
    send_signal(process_of(task), signal.SIGKILL)
    ending = peer.ending(task)
    ledger.report("a signal from outside", ending, peer.seconds(task))
    check(ending, "container_exit", 137, "SIGKILL")


def test_a_pod_that_somebody_deletes(limited: CaseRun, ledger: Ledger) -> None:
    site = limited.site
    task = site.peer.assign(script_task(LISTENS))
    process_of(task)
    (pod,) = [name for item in site.items("pods") if task in (name := item["metadata"]["name"])]
    site.client.delete(f"{site.core}/pods/{pod}")
    ending = site.peer.ending(task)
    ledger.report("kubectl delete pod", ending, site.peer.seconds(task))
    check(ending, "pod_missing", ending.exit_code if isinstance(ending, TaskFailed) else None, "deleted")


def test_output_comes_while_the_task_runs(limited: CaseRun, ledger: Ledger) -> None:
    peer = limited.site.peer
    task = peer.assign(script_task("echo first; while [ ! -e go ]; do sleep 0.2; done; echo last"))
    agent = process_of(task)
    peer.wait_for_output(task, "first\n")
    assert peer.output(task) == "first\n"
    Path(f"/proc/{agent}/root/workspace/go").touch()
    ending = peer.ending(task)
    ledger.report("live logs", ending, peer.seconds(task))
    check(ending, None)
    assert peer.output(task) == "first\nlast\n"


def test_a_cancellation_ends_the_process(limited: CaseRun, ledger: Ledger) -> None:
    check_cancelled("cancelled, and the agent listens", cancel(limited.site.peer, LISTENS), ledger)


def test_a_cancellation_ends_a_process_that_is_deaf_to_it(limited: CaseRun, ledger: Ledger) -> None:
    check_cancelled("cancelled, and the agent is deaf", limited.deaf.result(), ledger)


def check_cancelled(case: str, cancelled: Cancelled, ledger: Ledger) -> None:
    """Compare the report of a task that was cancelled, and how long its processes went on."""
    message = f"{cancelled.ending.message}; the last process was gone in that time"
    ledger.note(case, "cancelled", message, cancelled.seconds)
    assert cancelled.ending.task_state == "CANCELLED"
    assert cancelled.seconds < CANCELLATION


def test_the_deadline(node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger) -> None:
    with running_site(node_tier, namespace, tmp_path, active_deadline_seconds=8) as site:
        task = site.peer.assign(script_task(LISTENS))
        ending = site.peer.ending(task)
        ledger.report("deadline", ending, site.peer.seconds(task))
    check(ending, "active_deadline", None, "active_deadline_seconds")
