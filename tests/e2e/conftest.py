"""Fixtures of the heavy tests: one real node (marker ``node``) and one engine (``docker``) a session."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn, TypeAlias

import pytest

from tests.cluster.docker.build import build_images, import_bases
from tests.cluster.docker.engine import DockerEngine
from tests.cluster.docker.engine import obstacle as engine_obstacle
from tests.cluster.errors import ClusterError
from tests.cluster.node.services import ServiceNetwork
from tests.cluster.node_tier import NodeTier, obstacle, provide_node_tier, remaining_resources

from .installed import Installation, import_images, install
from .ledger import Ledger, table
from .peer import Ending, Peer
from .site import temporary_namespace

Report: TypeAlias = Callable[[str, Ending, float], None]

LEDGER = pytest.StashKey[Ledger]()
UNAVAILABLE = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Provide the node's programs before the first test: minutes, which no test's time-out allows for."""
    if session.config.option.collectonly or not any(i.get_closest_marker("node") for i in session.items):
        return
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
    ledger = config.stash.get(LEDGER, None)
    if ledger is not None and ledger.entries:
        terminalreporter.section("each case, with its reason and message")
        for line in table(ledger.entries):
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
    left = [*remaining_resources(os.getpid()), *(f"process {pid}" for pid in tier.sandbox.processes())]
    assert left == [], "the node has left something on this machine"


def _cannot(reason: str, what: str = "node tier") -> NoReturn:
    """Skip; but where CI runs, a test that is skipped for want of a node is a test that fails."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"no {what}: {reason}", pytrace=False)
    pytest.skip(f"no {what}: {reason}")


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A Docker engine with the base images."""
    if (reason := engine_obstacle()) is not None:
        _cannot(reason, "Docker engine")
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(DockerEngine())
            import_bases(engine)
        except ClusterError as error:
            _cannot(str(error), "Docker engine")
        yield engine


@pytest.fixture(scope="session")
def images(engine: DockerEngine) -> DockerEngine:
    """The engine with the project's images."""
    build_images(engine)
    return engine


@pytest.fixture(scope="session")
def services(node_tier: NodeTier) -> Iterator[ServiceNetwork]:
    """Services and their names, for Pods."""
    with ServiceNetwork(node_tier) as network:
        yield network


@pytest.fixture(scope="session")
def installation(
    images: DockerEngine,
    node_tier: NodeTier,
    services: ServiceNetwork,
    tmp_path_factory: pytest.TempPathFactory,
) -> Installation:
    """The product, installed once."""
    import_images(images, node_tier)
    return install(node_tier, tmp_path_factory.mktemp("installed"))


@pytest.fixture
def namespace(node_tier: NodeTier) -> Iterator[str]:
    """A namespace of the test's own, in which the user ``worker`` has its documented permissions."""
    with temporary_namespace(node_tier) as name:
        yield name


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A control plane that hands out what the test makes up."""
    with Peer() as running:
        yield running


@pytest.fixture(scope="session")
def report(ledger: Ledger) -> Report:
    """Note what the worker has just reported: ``report(case, ending, began)``, by the monotonic clock."""
    return lambda case, ending, began: ledger.report(case, ending, time.monotonic() - began)


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Where tests note how their cases ended, for the table at the end."""
    return request.config.stash.setdefault(LEDGER, Ledger())
