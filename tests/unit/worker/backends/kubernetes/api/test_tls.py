"""SSL contexts, tried against a TLS server on loopback."""

import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.kubernetes.api.identity import Cluster, CredentialsError, Pem
from oz_agent_worker.worker.backends.kubernetes.api.tls import (
    client_context,
    load_client_certificate,
    read_pem,
)
from tests.cluster.certificates import Authority, KeyPair
from tests.unit.worker.backends.kubernetes.tls_server import tls_server, who_am_i, write_pair


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test")


def data(text: bytes, where: str = "kubeconfig") -> Pem:
    return Pem(where, data=Secret(text.decode()))


def pems(pair: KeyPair) -> tuple[Pem, Pem]:
    return data(pair.certificate, "the certificate"), data(pair.key, "the key")


def encrypted(key: bytes, password: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def context_for(cluster: Cluster) -> ssl.SSLContext:
    context = client_context(cluster)
    assert context is not None
    return context


def trusting(authority: Authority) -> ssl.SSLContext:
    return context_for(Cluster("https://h", authority=data(authority.certificate)))


def test_plain_http_needs_no_context() -> None:
    assert client_context(Cluster("http://127.0.0.1:8001")) is None


def test_the_defaults_are_strict() -> None:
    context = context_for(Cluster("https://h"))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    # Python 3.13 demands key identifiers, which the authorities of many clusters lack.
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


async def test_the_authority_is_trusted_from_data_and_from_a_file(
    authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes("# größer\n".encode() + authority.certificate)
    from_file = context_for(Cluster("https://h", authority=Pem("ca", path=file)))
    async with tls_server(authority, tmp_path) as port:
        assert await who_am_i(port, trusting(authority)) == "nobody"
        assert await who_am_i(port, from_file) == "nobody"


async def test_another_authority_is_refused_unless_insecure(authority: Authority, tmp_path: Path) -> None:
    async with tls_server(authority, tmp_path) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await who_am_i(port, trusting(Authority.create("other")))
        assert await who_am_i(port, context_for(Cluster("https://h", insecure=True))) == "nobody"


async def test_another_host_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    async with tls_server(authority, tmp_path, "kubernetes.default") as port:
        assert await who_am_i(port, trusting(authority), "kubernetes.default") == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await who_am_i(port, trusting(authority))


async def test_a_client_certificate_is_presented(authority: Authority, tmp_path: Path) -> None:
    certificate, key = write_pair(authority.client("from-file"), tmp_path, "me")
    from_file = trusting(authority)
    load_client_certificate(from_file, Pem("c", path=certificate), Pem("k", path=key))
    from_data = trusting(authority)
    load_client_certificate(from_data, *pems(authority.client("from-data")))
    async with tls_server(authority, tmp_path) as port:
        assert await who_am_i(port, from_file) == "from-file"
        assert await who_am_i(port, from_data) == "from-data"


async def test_another_client_certificate_replaces_the_first(authority: Authority, tmp_path: Path) -> None:
    context = trusting(authority)
    async with tls_server(authority, tmp_path) as port:
        for name in ("first", "second"):
            load_client_certificate(context, *pems(authority.client(name)))
            assert await who_am_i(port, context) == name


def test_a_key_stays_on_no_disk(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, certificate: Path, key: Path, password: object) -> None:
        modes.extend(file.stat().st_mode & 0o777 for file in (certificate, key))
        load(context, certificate, key)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    load_client_certificate(trusting(authority), *pems(authority.client("me")))
    assert modes == [0o600, 0o600]
    with pytest.raises(CredentialsError):
        load_client_certificate(
            trusting(authority), *pems(KeyPair(authority.certificate, authority.client("b").key))
        )
    assert list(tmp_path.iterdir()) == []


def test_without_a_temporary_folder_the_error_says_what_to_do(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(CredentialsError, match=r"the certificate needs a temporary file.*TMPDIR"):
        load_client_certificate(trusting(authority), *pems(authority.client("me")))


def test_certificates_and_keys_that_cannot_be_used(authority: Authority) -> None:
    context = trusting(authority)
    mine, other = authority.client("mine"), authority.client("other")
    locked = KeyPair(mine.certificate, encrypted(mine.key, b"hunter2"))
    broken = b"-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"
    for pair, message in (
        (
            KeyPair(mine.certificate, other.key),
            "the key is not the key of the certificate in the certificate",
        ),
        (KeyPair(b"hunter2", mine.key), "the certificate contains no certificate in PEM form"),
        (KeyPair(mine.certificate, b"hunter2"), "the key contains no private key in PEM form"),
        (KeyPair(broken, mine.key), "the client certificate cannot be used"),
        (locked, "the key is encrypted"),
    ):
        with pytest.raises(CredentialsError, match=message) as caught:
            load_client_certificate(context, *pems(pair))
        assert "hunter2" not in str(caught.value)


def test_an_authority_that_cannot_be_used(tmp_path: Path) -> None:
    missing = tmp_path / "ca.crt"
    with pytest.raises(CredentialsError, match=r"the CA .*ca\.crt cannot be read: No such file"):
        client_context(Cluster("https://h", authority=Pem(f"the CA {missing}", path=missing)))
    with pytest.raises(CredentialsError, match="cluster k: certificate-authority-data contains no usable"):
        client_context(Cluster("https://h", authority=data(b"x", "cluster k: certificate-authority-data")))


def test_reading_pem(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("text")
    assert read_pem(Pem("a", path=file)) == "text"
    assert read_pem(data(b"text")) == "text"
