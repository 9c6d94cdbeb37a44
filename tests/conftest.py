"""Fixtures of the cluster tests (marker ``cluster``): a cluster a session, a namespace a test.

``cluster`` is whatever cluster there is: the API tier, or the one that
``OZ_TEST_KUBECONFIG`` names. ``api_tier`` and ``kubelet`` are for tests that need more
than an API: the audit log, a restart, a played node. They are skipped elsewhere.
"""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient
from tests.cluster.errors import ApiError, ClusterError
from tests.cluster.external import ExternalCluster
from tests.cluster.kubelet import Behaviour, Kubelet
from tests.cluster.provision import binaries

Cluster: TypeAlias = ApiTier | ExternalCluster
KubeletFactory: TypeAlias = Callable[..., Kubelet]

EXTERNAL = "OZ_TEST_KUBECONFIG"

UNAVAILABLE = pytest.StashKey[str]()

# Whatever profile Hypothesis has chosen (it has its own for CI), but nothing in it measures time.
settings.register_profile(
    "tests", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests' children the signals that a terminal gives them.

    Where pytest itself was started in the background or under nohup, some are ignored; that is
    inherited, and a shell cannot trap a signal that was ignored when it started (POSIX, trap).
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the cluster's binaries before the first test: minutes, which no test's time-out allows for."""
    needed = any(item.get_closest_marker("cluster") for item in session.items)
    if not needed or session.config.option.collectonly or os.environ.get(EXTERNAL):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        if capture is None:
            binaries()
        else:
            with capture.global_and_fixture_disabled():
                binaries()
    except ClusterError as error:
        session.config.stash[UNAVAILABLE] = str(error)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster for the whole session."""
    if external := os.environ.get(EXTERNAL):
        with ExternalCluster(Path(external)) as found:
            yield found
        return
    if reason := request.config.stash.get(UNAVAILABLE, ""):
        _cannot(reason)
    with ExitStack() as stack:
        try:
            tier = stack.enter_context(ApiTier())
        except ClusterError as error:
            _cannot(str(error))
        yield tier


def _cannot(reason: str) -> NoReturn:
    """Skip; but where CI runs, a test that is skipped for want of a cluster is a test that fails."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"no API tier: {reason}", pytrace=False)
    pytest.skip(f"no API tier: {reason}")


@pytest.fixture(scope="session")
def api_tier(cluster: Cluster) -> ApiTier:
    """The project's own control plane: with its audit log, its users, and a switch."""
    if not isinstance(cluster, ApiTier):
        pytest.skip(f"needs the API tier, and {EXTERNAL} names another cluster")
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, in which the user ``worker`` has its documented permissions."""
    name = cluster.create_namespace()
    yield name

    def delete() -> None:
        # At the session's end the cluster may be gone first, with all its namespaces.
        with suppress(OSError, ApiError):
            cluster.delete_namespace(name)

    threading.Thread(target=delete, name=f"delete {name}", daemon=True).start()


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[AsyncRestClient]:
    """An asynchronous client with all rights, which a test can use while a kubelet plays beside it."""
    async with AsyncRestClient(cluster.connection()) as client:
        yield client


@pytest.fixture
def kubelet(api_tier: ApiTier, namespace: str) -> KubeletFactory:
    """Make played kubelets for the test's namespace: ``async with kubelet(always(succeed())) as node``."""

    def create(behaviour: Behaviour, **options: Any) -> Kubelet:
        return Kubelet(api_tier.connection("kubelet"), behaviour, namespaces=[namespace], **options)

    return create
