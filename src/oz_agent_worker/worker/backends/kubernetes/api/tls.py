"""The SSLContext for an API server: what it trusts, and the client's certificate.

Where OpenSSL's defaults differ from client-go's, client-go's rules hold, so that a kubeconfig that
works with kubectl works here too.
"""

import contextlib
import hashlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .identity import Cluster, CredentialsError, Pem

__all__ = ["build_context", "client_context", "fingerprint", "load_client_certificate", "read_pem"]


def build_context(cluster: Cluster, certificate: tuple[Pem, Pem] | None) -> ssl.SSLContext | None:
    """Build the context for ``cluster`` that presents ``certificate``; ``None`` for ``http://``.

    Raises:
        CredentialsError: the certificate authority, the certificate or its key cannot be used.
    """
    context = client_context(cluster)
    if context is not None and certificate is not None:
        load_client_certificate(context, *certificate)
    return context


def fingerprint(cluster: Cluster, certificate: tuple[Pem, Pem] | None) -> bytes:
    """Return a digest of all that ``build_context`` reads; another one means another context.

    Raises:
        CredentialsError: a file cannot be read.
    """
    if not cluster.server.startswith("https://"):
        return b""
    digest = hashlib.sha256(b"insecure" if cluster.insecure else b"verified")
    for pem in (cluster.authority, *(certificate or (None, None))):
        text = "" if pem is None else read_pem(pem)
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.digest()


def client_context(cluster: Cluster) -> ssl.SSLContext | None:
    """Build the context for ``cluster``: TLS 1.2 or newer, host name checked; ``None`` for ``http://``.

    Without a certificate authority of its own, the system's are trusted.

    Raises:
        CredentialsError: the certificate authority cannot be read.
    """
    if not cluster.server.startswith("https://"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Go trusts every certificate of the pool, intermediate ones too, and accepts authorities
    # without a key identifier, which Python 3.13 refuses by default.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cluster.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif cluster.authority is None:
        context.load_default_certs()
    else:
        text = read_pem(cluster.authority)
        try:
            # OpenSSL accepts ASCII text only. PEM is ASCII, but comments in the file may not be.
            context.load_verify_locations(cadata=text.encode("ascii", "replace").decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            where = cluster.authority.where
            raise CredentialsError(f"{where} contains no usable certificate in PEM form") from error
    return context


def load_client_certificate(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    """Load a client certificate into ``context``, for connections that are opened later.

    Raises:
        CredentialsError: it is unreadable or no PEM, or the key is encrypted or of another certificate.
    """
    for pem, label in ((certificate, "CERTIFICATE"), (key, "PRIVATE KEY")):
        if f"{label}-----" not in read_pem(pem):
            raise CredentialsError(f"{pem.where} contains no {label.lower()} in PEM form")

    def refuse() -> str:
        raise CredentialsError(f"{key.where} is encrypted; store the key without a password")

    try:
        with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CredentialsError(
                f"{key.where} is not the key of the certificate in {certificate.where}"
            ) from error
        raise CredentialsError(
            f"the client certificate cannot be used ({error.reason or error}): "
            f"{certificate.where}, with {key.where}"
        ) from error


def read_pem(pem: Pem) -> str:
    """Return the PEM text; it may be a private key.

    Raises:
        CredentialsError: the file cannot be read.
    """
    if pem.path is None:
        return pem.data.reveal() if pem.data else ""
    try:
        return pem.path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise CredentialsError(f"{pem.where} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _as_file(pem: Pem) -> Iterator[Path]:
    """Give a file with the PEM text: its own, else a private one that is deleted after the block.

    Python's OpenSSL bindings load certificate chains from files only.
    """
    if pem.path is not None:
        yield pem.path
        return
    try:
        file = tempfile.NamedTemporaryFile("w", prefix="oz-", suffix=".pem")  # mode 0600  # noqa: SIM115
    except OSError as error:
        raise CredentialsError(
            f"{pem.where} needs a temporary file, and none can be created "
            f"({error.strerror or error}); mount a writable /tmp or set TMPDIR"
        ) from error
    with file:
        file.write(read_pem(pem))
        file.flush()
        yield Path(file.name)
