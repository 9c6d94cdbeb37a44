"""An API server and an identity on it, as a kubeconfig or a service account describes them.

Frozen data without I/O: ``kubeconfig`` and ``credentials`` create it, ``tls`` and ``exec_plugin`` use
it. No ``repr`` shows a secret.
"""

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError

__all__ = ["Cluster", "ClusterUser", "CredentialsError", "ExecConfig", "Pem", "decode_base64", "endpoint_url"]


#: A host with or without a port; an IPv6 address is in brackets (RFC 3986, 3.2.2).
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")


class CredentialsError(ConfigError):
    """The address of the API server or the credentials for it are missing or cannot be used."""


@dataclass(frozen=True)
class Pem:
    """A certificate or a key: in the file ``path``, else in ``data``. ``where`` names it in errors."""

    where: str
    path: Path | None = None
    data: Secret | None = None


@dataclass(frozen=True)
class Cluster:
    """An API server. ``exec_extension`` is plain data that is passed on to exec plugins.

    ``proxy_url`` is left out of ``repr`` because it may contain a password.
    """

    server: str
    authority: Pem | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = field(default=None, repr=False)
    exec_extension: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class ExecConfig:
    """A client-go credential plugin: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/"""

    command: str
    api_version: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, Secret], ...] = ()
    install_hint: str | None = None
    provide_cluster_info: bool = False


@dataclass(frozen=True)
class ClusterUser:
    """An identity; without any field it is the anonymous user. ``certificate`` is (certificate, key).

    ``token_file`` wins over ``token``, and every other kind wins over ``exec_config``.
    """

    token: Secret | None = None
    token_file: Path | None = None
    certificate: tuple[Pem, Pem] | None = None
    username: str | None = None
    password: Secret | None = None
    exec_config: ExecConfig | None = None


def decode_base64(value: Secret, where: str) -> Secret:
    """Decode the base64 of a PEM text; it may contain line breaks. ``where`` names it in the error.

    Raises:
        CredentialsError: it is not base64.
    """
    try:
        decoded = base64.b64decode("".join(value.reveal().split()), validate=True)
    except ValueError:
        raise CredentialsError(
            f"{where} is not valid base64; it must be the whole PEM file, as `base64 -w0 FILE` prints it"
        ) from None
    # PEM itself is ASCII; anything else in the text is a comment.
    return Secret(decoded.decode("utf-8", "replace"))


def endpoint_url(url: str, where: str) -> str:
    """Check an address, and return it with its scheme in lower case and without a final slash.

    Raises:
        CredentialsError: a scheme other than http and https or none, no host, a bad port, or a user name.
    """
    if _HOST_AND_PORT.fullmatch(url):
        # client-go takes it for http:// and leaves the credentials and the certificate authority away.
        raise CredentialsError(
            f"{where} {url!r} has no scheme, which is unencrypted HTTP without credentials to kubectl;"
            f" write https://{url}"
        )
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or any(character.isspace() for character in url):
        raise CredentialsError(f"{where} must be an address such as https://host:6443")
    if "@" in parts.netloc:
        raise CredentialsError(f"{where} holds a user name, which belongs in the users of the kubeconfig")
    return f"{parts.scheme}{url[len(parts.scheme) :].rstrip('/')}"
