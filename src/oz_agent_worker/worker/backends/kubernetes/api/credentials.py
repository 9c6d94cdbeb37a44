"""Finds the credentials for the Kubernetes API and keeps them current.

``load_credentials`` searches where client-go searches. ``Credentials`` has what a connection needs
(address, SSLContext) and what each request needs (headers). Every file of them may be replaced at
any time, as the kubelet replaces those of a Pod: certificate authority, token, client certificate
and key, and the kubeconfig itself. Kubernetes client libraries offer the same for 20 MiB of memory
and more: docs/architecture.md has the figures.
"""

import base64
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.common.proxy import Proxy, ProxyError, parse_proxy, proxy_for
from oz_agent_worker.common.secret import Secret

from .exec_plugin import ExecPlugin
from .identity import Cluster, ClusterUser, CredentialsError, Pem, endpoint_url
from .kubeconfig_files import SelectedContext, display_path, find_kubeconfigs
from .tls import build_context, fingerprint, read_pem

__all__ = ["SERVICE_ACCOUNT", "Credentials", "CredentialsError", "load_credentials"]

_logger = logging.getLogger(__name__)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a Pod's token, certificate authority and namespace."""

_REREAD: Final = 60.0
"""Seconds after which the files are read again."""

_REREAD_SOON: Final = 10.0
"""The same after files that could not be used: a certificate may be replaced before its key is."""


class Credentials:
    """One API server and one identity on it.

    ``namespace`` is the context's or the service account's. ``tls_server_name`` is the name to
    expect in the server's certificate, ``None`` where the kubeconfig has none. ``proxy`` is the
    kubeconfig's, else that of the environment variables. ``source`` reads the cluster and the user
    again; without it they stay the same. ``clock`` gives epoch seconds.

    ``context_version`` grows when ``ssl_context`` becomes another one. A connection keeps the context
    that it was opened with, so a client with a pool replaces its connections then.

    Raises:
        CredentialsError: the address of the proxy is not usable.
    """

    def __init__(
        self,
        cluster: Cluster,
        user: ClusterUser,
        *,
        namespace: str | None,
        description: str,
        environ: Mapping[str, str],
        source: Callable[[], tuple[Cluster, ClusterUser]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.server = cluster.server
        try:
            # As in client-go: the kubeconfig's proxy wins, and is used for loopback addresses too.
            self.proxy: Proxy | None = (
                parse_proxy(cluster.proxy_url, "the kubeconfig's proxy-url")
                if cluster.proxy_url
                else proxy_for(cluster.server, environ)
            )
        except ProxyError as error:
            raise CredentialsError(str(error)) from error
        self.namespace = namespace
        self.description = description
        self.context_version = 0
        self._environ = environ
        self._source = source or (lambda: (cluster, user))
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._certificate: tuple[Pem, Pem] | None
        self._fingerprint: bytes | None = None
        self._read_at = clock()
        self._reread_after = _REREAD
        self._faults = FaultLog(_logger, f"reading the credentials of {description} again")
        self._take(cluster, user)

    def __repr__(self) -> str:
        return f"<Credentials {self.description}: {self.server}>"

    @property
    def tls_server_name(self) -> str | None:
        """The name to expect in the server's certificate, if it is not the server's own."""
        return self._cluster.tls_server_name

    @property
    def trust(self) -> str:
        """What the server's certificate is verified against, for messages."""
        authority = self._cluster.authority
        return authority.where if authority is not None else "the system's certificate authorities"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for connections that are opened from here on; ``None`` for ``http://``.

        ``headers`` and ``read_again`` replace it when a certificate changes, or comes from an exec plugin.

        Raises:
            CredentialsError: a certificate or key cannot be used.
        """
        if self._fingerprint is None:
            self._load(self._cluster, self._certificate)
        return self._context

    async def headers(self, force_refresh: bool = False) -> dict[str, str]:
        """Return the headers that authenticate a request; to be called before each request.

        Files are read again once a minute, and an exec plugin runs when its credential is about to
        expire. ``force_refresh``, for the one retry after a 401, does that at once.

        Raises:
            CredentialsError: there is no usable credential.
        """
        now = self._clock()
        if force_refresh or not 0 <= now - self._read_at < self._reread_after:
            self.read_again()
        user = self._user
        if self._plugin:
            credential = await self._plugin.credential(force=force_refresh)
            if credential.certificate:
                self._certificate = credential.certificate
                if self._fingerprint is not None:
                    self._load(self._cluster, credential.certificate)
            return _bearer(_usable(credential.token, "the exec plugin's token")) if credential.token else {}
        if user.token_file:
            return _bearer(self._token or self._read_token(user))
        if user.token:
            return _bearer(_usable(user.token, f"the token of {self.description}"))
        if user.username:
            password = user.password.reveal() if user.password else ""
            pair = base64.b64encode(f"{user.username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def read_again(self) -> None:
        """Read every file again; what cannot be used is logged, and what was read before stays in use.

        For a server that cannot be verified or answers 401. It costs less than the request that failed.
        """
        self._read_at, self._reread_after = self._clock(), _REREAD
        failures = []
        for read in (self._read_source, self._read_certificates, self._read_token_file):
            try:
                read()
            except CredentialsError as error:
                failures.append(str(error))
        if failures:
            self._reread_after = _REREAD_SOON
            self._faults.failed("fails, and what was read before stays in use", "; ".join(failures))
        else:
            self._faults.works()

    def _read_source(self) -> None:
        cluster, user = self._source()
        if (cluster, user) == (self._cluster, self._user):
            return
        if (cluster.server, cluster.proxy_url) != (self._cluster.server, self._cluster.proxy_url):
            # Another server may be another cluster, without the Jobs that this worker runs.
            raise CredentialsError(
                f"{self.description} has another server or proxy-url; restart the worker to use it"
            )
        if self._fingerprint is not None:
            self._load(cluster, user.certificate)
        self._take(cluster, user)
        _logger.info(
            "The user or the cluster of %s has changed; requests use it from here on", self.description
        )

    def _read_certificates(self) -> None:
        if self._fingerprint is not None:
            self._load(self._cluster, self._certificate)

    def _read_token_file(self) -> None:
        if self._user.token_file:
            self._read_token(self._user)

    def _take(self, cluster: Cluster, user: ClusterUser) -> None:
        self._cluster = cluster
        self._user = user
        self._certificate = user.certificate
        self._token: Secret | None = None
        # As in client-go, an identity in the file wins over a plugin's.
        static = user.token or user.token_file or user.certificate or user.username
        self._plugin: ExecPlugin | None = (
            ExecPlugin(user.exec_config, cluster, environ=self._environ, clock=self._clock)
            if user.exec_config and not static
            else None
        )

    def _load(self, cluster: Cluster, certificate: tuple[Pem, Pem] | None) -> None:
        """Make the context of what the files hold, where that has changed.

        It is always another context: an authority cannot be taken out of one.
        """
        found = fingerprint(cluster, certificate)
        if found == self._fingerprint:
            return
        context = build_context(cluster, certificate)
        if fingerprint(cluster, certificate) != found:
            raise CredentialsError("the certificates changed while they were read")
        if self._fingerprint is not None:
            _logger.info(
                "The certificates of %s have changed; connections use them from here on", self.description
            )
        self._context, self._fingerprint, self._certificate = context, found, certificate
        self.context_version += 1

    def _read_token(self, user: ClusterUser) -> Secret:
        """Read the token file; the token beside it counts where it cannot be read the first time."""
        assert user.token_file is not None
        where = f"the token in {user.token_file}"
        try:
            text = read_pem(Pem(str(user.token_file), path=user.token_file))
            self._token = _usable(Secret(text), where)
        except CredentialsError:
            if self._token is not None or user.token is None:
                raise
            self._token = _usable(user.token, f"the token beside the token file {user.token_file}")
        return self._token


def load_credentials(
    kubeconfig: str | None,
    *,
    environ: Mapping[str, str],
    context: str | None = None,
    service_account: Path = SERVICE_ACCOUNT,
    clock: Callable[[], float] = time.time,
) -> Credentials:
    """Find the API server and the identity to use.

    In this order: the file ``kubeconfig``; the Pod's service account, unless a ``context`` is given;
    the files of $KUBECONFIG; ``~/.kube/config``. ``clock`` gives epoch seconds.

    Raises:
        CredentialsError: nothing is found, or what is found cannot be used.
    """
    in_pod = environ.get("KUBERNETES_SERVICE_HOST") and environ.get("KUBERNETES_SERVICE_PORT")
    if not kubeconfig and not context and in_pod and (service_account / "token").is_file():
        return _in_cluster(environ, service_account, clock)
    paths, missing = find_kubeconfigs(kubeconfig, environ, service_account)
    selected = SelectedContext(paths, context, missing)
    selection = selected.read()

    def read() -> tuple[Cluster, ClusterUser]:
        selection = selected.read()
        return selection.cluster, selection.user

    return Credentials(
        selection.cluster,
        selection.user,
        namespace=selection.namespace,
        description=f'context "{selection.context}" of {display_path(selection.file, environ)}',
        environ=environ,
        source=read,
        clock=clock,
    )


def _in_cluster(environ: Mapping[str, str], service_account: Path, clock: Callable[[], float]) -> Credentials:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    authority = service_account / "ca.crt"
    namespace = service_account / "namespace"
    return Credentials(
        Cluster(
            server=endpoint_url(f"https://{address}:{port}", "KUBERNETES_SERVICE_HOST with _PORT"),
            authority=Pem(f"the service account's certificate authority {authority}", path=authority),
        ),
        ClusterUser(token_file=service_account / "token"),
        namespace=read_pem(Pem(str(namespace), path=namespace)).strip() if namespace.is_file() else None,
        description="in-cluster service account",
        environ=environ,
        clock=clock,
    )


def _usable(token: Secret, where: str) -> Secret:
    """Return the token without surrounding space.

    Raises:
        CredentialsError: it is empty, or cannot be part of a header.
    """
    text = token.reveal().strip()
    if not text:
        raise CredentialsError(f"{where} is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise CredentialsError(f"{where} is no bearer token: it contains spaces or characters outside ASCII")
    return Secret(text)


def _bearer(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}
