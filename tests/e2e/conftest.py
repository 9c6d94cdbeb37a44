"""Fixtures of the node tests (marker ``node``): one real node a session, a namespace a test."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import NoReturn, TypeAlias

import pytest

from tests.cluster.errors import ApiError, ClusterError
from tests.cluster.nodetier import NodeTier, leftovers, obstacle, provide_node_tier
from tests.e2e.ledger import Entry, entry_of, table
from tests.e2e.peer import Ending, Peer

Report: TypeAlias = Callable[[str, Ending, float], None]
Notice: TypeAlias = Callable[..., None]

LEDGER = pytest.StashKey[list[Entry]]()
UNAVAILABLE = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Provide the node's programs before the first test: minutes, which no test's time-out allows for."""
    if session.config.option.collectonly or not any(i.get_closest_marker("node") for i in session.items):
        return
    session.config.stash[LEDGER] = []
    if (reason := obstacle()) is not None:
        session.config.stash[UNAVAILABLE] = reason
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        if capture is None:
            provide_node_tier()
        else:
            with capture.global_and_fixture_disabled():
                provide_node_tier()
    except ClusterError as error:
        session.config.stash[UNAVAILABLE] = str(error)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show each case with its reason and message."""
    if entries := config.stash.get(LEDGER, []):
        terminalreporter.section("what the worker reported of each case")
        for line in table(entries):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def node_tier(request: pytest.FixtureRequest) -> Iterator[NodeTier]:
    """A cluster with a real node; at the end, nothing may be left of it."""
    if reason := request.config.stash.get(UNAVAILABLE, ""):
        _cannot(reason)
    tier = NodeTier()
    try:
        tier.start()
    except ClusterError as error:
        _cannot(str(error))
    yield tier
    tier.close()
    left = [*leftovers(os.getpid()), *(f"process {pid}" for pid in tier.sandbox.processes())]
    assert left == [], "the node has left something on this machine"


def _cannot(reason: str) -> NoReturn:
    """Skip; but where CI runs, a test that is skipped for want of a node is a test that fails."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"no node tier: {reason}", pytrace=False)
    pytest.skip(f"no node tier: {reason}")


@contextmanager
def temporary_namespace(tier: NodeTier) -> Iterator[str]:
    """A namespace in which the user ``worker`` has its documented permissions."""
    name = tier.api.create_namespace()
    yield name

    def delete() -> None:
        with suppress(OSError, HTTPException, ApiError):  # the cluster may be gone first
            tier.api.delete_namespace(name)

    threading.Thread(target=delete, name=f"delete {name}", daemon=True).start()


@pytest.fixture
def namespace(node_tier: NodeTier) -> Iterator[str]:
    """A namespace of the test's own."""
    with temporary_namespace(node_tier) as name:
        yield name


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A control plane that hands out what the test makes up."""
    with Peer() as running:
        yield running


@pytest.fixture(scope="session")
def notice(request: pytest.FixtureRequest) -> Notice:
    """Note what is no report: ``notice(case, result, message, seconds)``."""

    def note(case: str, result: str, message: str, seconds: float | None = None) -> None:
        request.config.stash[LEDGER].append(Entry(case, result, message, None, seconds))

    return note


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Note a case's end for the table: ``report(case, ending, began)``, ``began`` by the monotonic clock."""

    def note(case: str, ending: Ending, began: float) -> None:
        request.config.stash[LEDGER].append(entry_of(case, ending, time.monotonic() - began))

    return note
