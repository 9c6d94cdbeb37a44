"""etcd, kube-apiserver and kube-controller-manager on loopback: all of Kubernetes but the nodes."""

import os
import secrets
import shutil
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from tests.timeouts import HANG_TIMEOUT

from . import kubeconfig, namespaces
from .audit import POLICY, AuditEntry, AuditLog
from .certificates import Authority, KeyPair, signing_key
from .components import SERVICES, Layout, apiserver_command, controller_manager_command, etcd_command
from .errors import ApiError
from .kubeconfig import Connection
from .processes import Child, free_ports
from .provision import binaries
from .rest import RestClient, wait_for

__all__ = ["USERS", "ApiTier"]

CONTROLLER_MANAGER: Final = "system:kube-controller-manager"

FOLDER: Final = "oz-api-tier-"
"""How the name of the temporary folder begins; the process ID of its owner follows."""

USERS: Final[dict[str, tuple[str, ...]]] = {
    "admin": ("system:masters",),
    "worker": (),  # a Role in each namespace that create_namespace makes
    "nobody": (),
    "kubelet": ("system:masters",),  # its own name, so that the audit log tells its requests apart
    CONTROLLER_MANAGER: ("system:masters",),  # its controllers have no service accounts of their own
}
"""Each user of the static token file, and its groups."""


class ApiTier:
    """A context manager that owns the three processes and a temporary folder with all their files.

    It is synchronous (processes alone, no event loop), so that one tier serves all
    tests of a session, whatever loop each has.
    """

    def __init__(self) -> None:
        self._tokens = {user: secrets.token_hex(16) for user in USERS}
        self._authority = self._serving_authority = Authority.create("oz-agent-worker test cluster")
        self._started = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all three processes and return when objects can be created.

        Raises:
            ProvisionError: there are no binaries.
            StartError: a process did not come up.
        """
        found = binaries()
        _remove_stale_runs()
        root = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self.layout = Layout(root, *free_ports(3))
        self._write_files()
        self.etcd = Child(etcd_command(found["etcd"], self.layout), self.layout.log("etcd"))
        self.apiserver = Child(
            apiserver_command(found["kube-apiserver"], self.layout), self.layout.log("kube-apiserver")
        )
        manager = controller_manager_command(
            found["kube-controller-manager"], self.layout, self.kubeconfig(CONTROLLER_MANAGER)
        )
        self.controller_manager = Child(manager, self.layout.log("kube-controller-manager"))
        self._audit = AuditLog(self.layout.audit_log)
        try:
            self.etcd.start()
            self.start_apiserver()
            self.controller_manager.start()
            self._wait_for_controllers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill the processes (their data is not wanted) and remove their files."""
        for child in (self.controller_manager, self.apiserver, self.etcd):
            child.stop(grace=0)
        shutil.rmtree(self.layout.root, ignore_errors=True)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self.layout.server

    @property
    def authority(self) -> bytes:
        """The certificate, PEM, that signed the API server's."""
        return self._serving_authority.certificate

    def token(self, user: str = "admin") -> str:
        """Return the static bearer token of one of ``USERS``."""
        return self._tokens[user]

    def client_certificate(self, user: str, *groups: str) -> KeyPair:
        """Issue a certificate by which the API server knows any user, of ``USERS`` or not."""
        return self._authority.client(user, *groups)

    def kubeconfig(self, user: str = "admin", namespace: str = "default") -> Path:
        """Write a kubeconfig of one of ``USERS`` and return its path."""
        path = self.layout.kubeconfig(f"{user.replace(':', '-')}.{namespace}")
        content = kubeconfig.document(self.server, self.authority, {"token": self.token(user)}, namespace)
        return kubeconfig.write(path, content)

    def connection(self, user: str = "admin", namespace: str = "default") -> Connection:
        """Return what a client needs to talk to the API server as one of ``USERS``, in any namespace."""
        return Connection.from_kubeconfig(self.kubeconfig(user, namespace))

    def client(self, user: str = "admin", namespace: str = "default") -> RestClient:
        """Return a synchronous client with the credentials of one of ``USERS``."""
        return RestClient(self.connection(user, namespace))

    def create_namespace(self) -> str:
        """Create a namespace where the user ``worker`` has its documented permissions; return its name."""
        subject = {"apiGroup": namespaces.RBAC, "kind": "User", "name": "worker"}
        name = namespaces.create_namespace(self.client(), subject)
        worker = self.client("worker")
        wait_for("the worker's permissions", lambda: namespaces.worker_may_list_jobs(worker, name))
        return name

    def delete_namespace(self, name: str) -> None:
        """Ask for the deletion of a namespace, and return before it is gone."""
        namespaces.delete_namespace(self.client(), name)

    def stop_apiserver(self, *, grace: float = 0.0) -> None:
        """Kill the API server, or end it with TERM and ``grace`` seconds of time; etcd keeps all objects.

        With open watches it takes more than ten seconds to end by itself.
        """
        self.apiserver.stop(grace=grace)

    def start_apiserver(self) -> None:
        """Start the API server, on the same port as ever, and wait for ``/readyz``."""
        self.apiserver.start()
        client = self.client()
        self.apiserver.wait_until(lambda: _is_ready(client), timeout=HANG_TIMEOUT)

    def rotate_authority(self, authority: Authority) -> None:
        """Restart the API server with a certificate of another authority.

        Users keep their tokens and certificates. Who trusts the authority before alone is shut out, but
        for the controller manager, which is restarted.
        """
        self.controller_manager.stop(grace=0)
        self.stop_apiserver()
        self._serving_authority = authority
        self._write_serving_certificate()
        self.kubeconfig(CONTROLLER_MANAGER)
        self.start_apiserver()
        self.controller_manager.start()

    def audit(
        self,
        *,
        user: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        namespace: str | None = None,
    ) -> list[AuditEntry]:
        """Return the requests answered so far, in order of time, without those of the controller manager.

        Every given argument must match. Every request that was answered before the call
        is in the list; see ``AuditEntry`` for watches that are still open.
        """
        self._flush_audit_log()
        wanted = {"user": user, "verb": verb, "resource": resource, "namespace": namespace}
        given = {name: value for name, value in wanted.items() if value is not None}
        return sorted(
            (
                entry
                for entry in self._audit.entries()
                if all(getattr(entry, k) == v for k, v in given.items())
            ),
            key=lambda entry: entry.received,
        )

    def _flush_audit_log(self) -> None:
        """Read the log up to a request of our own, made after all that the caller asks about.

        An entry is written once its request has been answered, so that a client can
        have its answer a moment before the log has the entry.
        """
        marker = uuid.uuid4().hex
        self.client().get(f"/version?marker={marker}")

        wait_for(
            "the audit log's entry of the last request",
            lambda: any(marker in entry.request_uri for entry in self._audit.refresh()),
        )

    def _write_files(self) -> None:
        layout = self.layout
        for folder in (layout.authority.parent, layout.audit_log.parent):
            folder.mkdir(parents=True)
        self._write_serving_certificate()
        _write_pair(self._authority.client("kube-apiserver", "system:masters"), layout.kubelet_client)
        layout.authority.write_bytes(self._authority.certificate)
        layout.service_account_key.write_bytes(signing_key())
        layout.audit_policy.write_text(yaml.safe_dump(POLICY))
        rows = (f'{self._tokens[user]},{user},{user},"{",".join(groups)}"' for user, groups in USERS.items())
        layout.tokens.write_text("\n".join(rows) + "\n")

    def _write_serving_certificate(self) -> None:
        names = ("127.0.0.1", "localhost", "kubernetes.default.svc", str(SERVICES[1]))
        _write_pair(self._serving_authority.server(*names), self.layout.serving)

    def _wait_for_controllers(self) -> None:
        """Wait for the first thing that only a running controller manager does."""
        client = self.client()

        def has_service_account() -> bool:
            accounts: Any = client.get("/api/v1/namespaces/default/serviceaccounts")
            return bool(accounts["items"])

        self.controller_manager.wait_until(has_service_account, timeout=HANG_TIMEOUT)


def _write_pair(pair: KeyPair, paths: tuple[Path, Path]) -> None:
    certificate, key = paths
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)


def _remove_stale_runs() -> None:
    """Remove the folders of processes that were killed: etcd's log alone takes 64 MB in each."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        owner = folder.name.removeprefix(FOLDER).split("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _is_ready(client: RestClient) -> bool:
    try:
        client.exchange("GET", "/readyz")
    except (OSError, ApiError):
        return False
    return True
