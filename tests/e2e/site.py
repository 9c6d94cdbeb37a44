"""A worker at its place: a namespace of a real node, and a peer that gives it tasks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.cluster.errors import ApiError
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import RestClient

from .peer import Peer
from .tasks import config_file, worker_of

__all__ = ["Site", "running_site", "temporary_namespace"]


@dataclass(frozen=True, slots=True)
class Site:
    """A worker's namespace and peer; ``client`` has all rights in the cluster."""

    client: RestClient
    namespace: str
    peer: Peer

    @property
    def core(self) -> str:
        """The path of the namespace's objects of the core group."""
        return f"/api/v1/namespaces/{self.namespace}"

    def items(self, kind: str) -> list[Any]:
        """The objects of a kind of the core group."""
        listed: Any = self.client.get(f"{self.core}/{kind}")
        return list(listed["items"])

    def jobs(self) -> list[str]:
        """The names of the Jobs that there are."""
        listed: Any = self.client.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs")
        return [item["metadata"]["name"] for item in listed["items"]]


@contextmanager
def running_site(tier: NodeTier, namespace: str, folder: Path, **section: Any) -> Iterator[Site]:
    """Run a worker in a namespace; ``section`` is what its config has beyond the usual."""
    config = config_file(tier, namespace, folder, **section)
    with Peer() as peer, worker_of(peer, config):
        yield Site(tier.api.client(), namespace, peer)


@contextmanager
def temporary_namespace(tier: NodeTier) -> Iterator[str]:
    """Make a namespace in which the user ``worker`` has its documented permissions."""
    name = tier.api.create_namespace()
    yield name

    def delete() -> None:
        with suppress(OSError, HTTPException, ApiError):  # the cluster may be gone first
            tier.api.delete_namespace(name)

    threading.Thread(target=delete, name=f"delete {name}", daemon=True).start()
