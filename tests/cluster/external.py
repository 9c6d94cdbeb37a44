"""Any cluster that a kubeconfig reaches, behind the part of ``ApiTier`` that does not need to own it."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from . import kubeconfig, namespaces
from .errors import ClusterError
from .kubeconfig import Connection
from .rest import RestClient

__all__ = ["ExternalCluster"]

TOKEN_SECONDS: Final = 3600


class ExternalCluster:
    """A context manager. The user ``worker`` is a service account of that name in each namespace it makes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="oz-external-cluster-")
        self._connection = Connection.from_kubeconfig(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self._connection.server

    def kubeconfig(self, user: str = "admin", namespace: str = "default") -> Path:
        """Return a kubeconfig: the given cluster's own user as ``admin``, or ``worker`` of the namespace.

        Raises:
            ClusterError: another user is asked for.
        """
        if user == "worker":
            account = f"/api/v1/namespaces/{namespace}/serviceaccounts/worker/token"
            request = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
            answer: Any = self.client().create(account, request)
            entry = {"token": answer["status"]["token"]}
            content = kubeconfig.document(self.server, self._connection.authority, entry, namespace)
        elif user == "admin":
            content = kubeconfig.in_namespace(self._path, namespace)
        else:
            raise ClusterError(f"this cluster has no user {user!r} for tests")
        return kubeconfig.write(Path(self._folder.name) / f"{user}.{namespace}.yaml", content)

    def connection(self, user: str = "admin", namespace: str = "default") -> Connection:
        """Return what a client needs to talk to the API server."""
        if user == "admin":
            return self._connection
        return Connection.from_kubeconfig(self.kubeconfig(user, namespace))

    def client(self, user: str = "admin", namespace: str = "default") -> RestClient:
        """Return a synchronous client."""
        return RestClient(self.connection(user, namespace))

    def create_namespace(self) -> str:
        """Create a namespace where ``worker`` has its documented permissions; return its name."""
        return namespaces.create_namespace(self.client())

    def delete_namespace(self, name: str) -> None:
        """Ask for the deletion of a namespace, and return before it is gone."""
        namespaces.delete_namespace(self.client(), name)
