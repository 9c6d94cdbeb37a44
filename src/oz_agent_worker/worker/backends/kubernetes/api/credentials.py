"""Finds the credentials for the Kubernetes API and keeps them current.

``load_credentials`` searches where client-go searches. ``Credentials`` has what a connection needs
(address, SSLContext) and what each request needs (headers). Kubernetes client libraries offer the
same for 20 MiB of memory and more: docs/architecture.md has the figures.
"""

import base64
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from oz_agent_worker.common.proxy import Proxy, ProxyError, parse_proxy, proxy_for
from oz_agent_worker.common.secret import Secret

from .exec_plugin import ExecPlugin
from .identity import Cluster, ClusterUser, CredentialsError, Pem, endpoint_url
from .kubeconfig import Kubeconfig, merge_kubeconfigs, parse_kubeconfig
from .tls import client_context, load_client_certificate, read_pem

__all__ = ["SERVICE_ACCOUNT", "Credentials", "CredentialsError", "load_credentials"]

_logger = logging.getLogger(__name__)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a Pod's token, certificate authority and namespace."""

_REREAD: Final = 60.0
"""Seconds after which a file with a token or a certificate is read again."""

_CONFIG_KEY: Final = "backend.kubernetes.kubeconfig"


class Credentials:
    """One API server and one identity on it.

    ``namespace`` is the context's or the service account's. ``tls_server_name`` is the name to
    expect in the server's certificate, ``None`` where the kubeconfig has none. ``proxy`` is the
    kubeconfig's, else that of the environment variables. ``clock`` gives epoch seconds.

    ``certificate_version`` grows when another client certificate is loaded. A connection keeps the
    certificate that it was opened with, so a client with a pool replaces its connections then.

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
        self.tls_server_name = cluster.tls_server_name
        self.namespace = namespace
        self.description = description
        self.certificate_version = 0
        self._cluster = cluster
        self._user = user
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._certificate: tuple[Secret, Secret] | None = None
        self._certificate_read_at = 0.0
        self._token_file = _TokenFile(user.token_file, user.token, clock) if user.token_file else None
        # As in client-go, an identity in the file wins over a plugin's.
        static = user.token or user.token_file or user.certificate or user.username
        self._plugin = (
            ExecPlugin(user.exec_config, cluster, environ=environ, clock=clock)
            if user.exec_config and not static
            else None
        )

    def __repr__(self) -> str:
        return f"<Credentials {self.description}: {self.server}>"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the one context for all connections; ``None`` for an ``http://`` server.

        ``headers`` loads a client certificate that changes, or comes from an exec plugin, into it.

        Raises:
            CredentialsError: a certificate or key cannot be used.
        """
        if self._context is None:
            context = client_context(self._cluster)
            if context and self._user.certificate:
                self._present(context, self._user.certificate)
            self._context = context
        return self._context

    async def headers(self, force_refresh: bool = False) -> dict[str, str]:
        """Return the headers that authenticate a request; to be called before each request.

        Files are read again once a minute, and an exec plugin runs when its credential is about to
        expire. ``force_refresh``, for the one retry after a 401, does that at once.

        Raises:
            CredentialsError: there is no usable credential.
        """
        user = self._user
        if self._plugin:
            credential = await self._plugin.credential(force=force_refresh)
            context = self.ssl_context()
            if context and credential.certificate:
                self._present(context, credential.certificate)
            return _bearer(_usable(credential.token, "the exec plugin's token")) if credential.token else {}
        self._reread_certificate(force_refresh)
        if self._token_file:
            return _bearer(self._token_file.token(force_refresh))
        if user.token:
            return _bearer(_usable(user.token, f"the token of {self.description}"))
        if user.username:
            password = user.password.reveal() if user.password else ""
            pair = base64.b64encode(f"{user.username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def _reread_certificate(self, force: bool) -> None:
        """Load the client certificate's files again where they have changed and are usable."""
        if not self._user.certificate or not self._context:
            return
        if not force and 0 <= self._clock() - self._certificate_read_at < _REREAD:
            return
        try:
            self._present(self._context, self._user.certificate)
        except CredentialsError as error:
            self._certificate_read_at = self._clock()
            _logger.warning("the client certificate cannot be read again and stays in use: %s", error)

    def _present(self, context: ssl.SSLContext, certificate: tuple[Pem, Pem]) -> None:
        self._certificate_read_at = self._clock()
        texts = (Secret(read_pem(certificate[0])), Secret(read_pem(certificate[1])))
        if texts == self._certificate:
            return
        # A pair that OpenSSL refuses would leave half of it in the context, so it is tried in another one.
        load_client_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), *certificate)
        load_client_certificate(context, *certificate)
        self._certificate = texts
        self.certificate_version += 1


class _TokenFile:
    """A bearer token in a file that is replaced from time to time, as the kubelet replaces it."""

    def __init__(self, path: Path, fallback: Secret | None, clock: Callable[[], float]) -> None:
        self._path = path
        self._token = _usable(fallback, f"the token beside the token file {path}") if fallback else None
        self._clock = clock
        self._read_at: float | None = None

    def token(self, force: bool) -> Secret:
        """Return the last token that could be read; it is read once a minute, and with ``force`` at once."""
        now = self._clock()
        if self._token and not force and self._read_at is not None and 0 <= now - self._read_at < _REREAD:
            return self._token
        try:
            self._token = _usable(_read_secret(self._path), f"the token in {self._path}")
        except CredentialsError as error:
            if self._token is None:
                raise
            _logger.warning("the token cannot be read again and stays in use: %s", error)
        self._read_at = now
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
    config = _find_kubeconfig(kubeconfig, environ, service_account)
    selection = config.select(context)
    return Credentials(
        selection.cluster,
        selection.user,
        namespace=selection.namespace,
        description=f'context "{selection.context}" of {_shown(selection.file, environ)}',
        environ=environ,
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
        namespace=_read_secret(namespace).reveal() if namespace.is_file() else None,
        description="in-cluster service account",
        environ=environ,
        clock=clock,
    )


def _find_kubeconfig(kubeconfig: str | None, environ: Mapping[str, str], service_account: Path) -> Kubeconfig:
    if kubeconfig:
        path = _expanded(kubeconfig, environ)
        return _read_kubeconfig(path) or _missing(f"{path}, which {_CONFIG_KEY} names, does not exist")
    listed = environ.get("KUBECONFIG", "")
    if listed:
        paths = dict.fromkeys(_expanded(name, environ) for name in listed.split(os.pathsep) if name)
        found = [config for path in paths if (config := _read_kubeconfig(path))]
        return merge_kubeconfigs(found) if found else _missing(f"no file of $KUBECONFIG exists: {listed}")
    path = _expanded("~/.kube/config", environ)
    why = f"{path} does not exist and $KUBECONFIG is not set"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        why += (
            f"; in this Pod no service account is mounted at {service_account} (automountServiceAccountToken)"
        )
    return _read_kubeconfig(path) or _missing(why)


def _missing(what: str) -> NoReturn:
    raise CredentialsError(
        f"no kubeconfig: {what}. Set {_CONFIG_KEY} or $KUBECONFIG to a file that `kubectl` works with"
    )


def _read_kubeconfig(path: Path) -> Kubeconfig | None:
    """Read a kubeconfig; ``None`` where the file does not exist."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError(f"kubeconfig {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # not chained: the error holds the whole file
        raise CredentialsError(f"kubeconfig {path} is not UTF-8 text") from None
    return parse_kubeconfig(text, path)


def _read_secret(path: Path) -> Secret:
    return Secret(read_pem(Pem(str(path), path=path)).strip())


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


def _expanded(name: str, environ: Mapping[str, str]) -> Path:
    path = _home(environ) / name[2:] if name.startswith("~/") else Path(name)
    return path.absolute()


def _shown(path: Path, environ: Mapping[str, str]) -> str:
    home = _home(environ)
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
