"""The command lines of the API tier, as pure functions of where its files lie and which ports are free."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["SERVICES", "Layout", "apiserver_command", "controller_manager_command", "etcd_command"]

SERVICES: Final = ipaddress.IPv4Network("10.96.0.0/16")
"""The addresses of Services; the API server's own Service has the first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The tier's files, all under ``root``, and its loopback ports."""

    root: Path
    etcd_port: int
    etcd_peer_port: int
    apiserver_port: int

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://127.0.0.1:{self.apiserver_port}"

    @property
    def authority(self) -> Path:
        """The certificate authority's certificate."""
        return self.root / "pki" / "ca.crt"

    @property
    def serving(self) -> tuple[Path, Path]:
        """The API server's certificate and key."""
        return self.root / "pki" / "apiserver.crt", self.root / "pki" / "apiserver.key"

    @property
    def kubelet_client(self) -> tuple[Path, Path]:
        """The certificate and key with which the API server comes to a kubelet."""
        return self.root / "pki" / "kubelet-client.crt", self.root / "pki" / "kubelet-client.key"

    @property
    def service_account_key(self) -> Path:
        """The key that signs service account tokens."""
        return self.root / "pki" / "service-accounts.key"

    @property
    def tokens(self) -> Path:
        """The static token file (token, user, user ID, groups)."""
        return self.root / "tokens.csv"

    @property
    def audit_policy(self) -> Path:
        """What the API server logs."""
        return self.root / "audit-policy.yaml"

    @property
    def audit_log(self) -> Path:
        """Where it logs it."""
        return self.root / "logs" / "audit.log"

    def log(self, name: str) -> Path:
        """Return the log file of one process."""
        return self.root / "logs" / f"{name}.log"

    def kubeconfig(self, name: str) -> Path:
        """Return the kubeconfig of one user."""
        return self.root / "kubeconfigs" / f"{name}.yaml"


def etcd_command(binary: Path, layout: Layout) -> list[str]:
    """One member; nothing is worth an fsync, because nothing outlives the session."""
    client = f"http://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    return [
        str(binary),
        "--name=test",
        f"--data-dir={layout.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_command(binary: Path, layout: Layout) -> list[str]:
    """RBAC with a static token a user, client certificates besides, and every request in the audit log."""
    certificate, key = layout.serving
    kubelet_certificate, kubelet_key = layout.kubelet_client
    return [
        str(binary),
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.apiserver_port}",
        # A loopback address must not be in Endpoints, so nothing publishes it.
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={layout.authority}",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.service_account_key}",
        f"--service-account-signing-key-file={layout.service_account_key}",
        f"--service-cluster-ip-range={SERVICES}",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=100000",  # MB; rotated files would be missed
    ]


def controller_manager_command(binary: Path, layout: Layout, kubeconfig: Path) -> list[str]:
    """All default controllers. At their own request rates, tests with a thousand Jobs would wait for them."""
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={layout.authority}",
        f"--service-account-private-key-file={layout.service_account_key}",
        "--leader-elect=false",
        "--secure-port=0",
        # By default a folder under /usr, which it makes.
        f"--flex-volume-plugin-dir={layout.root / 'volume-plugins'}",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--concurrent-job-syncs=20",
    ]
