"""Finding credentials, and keeping them current."""

import base64
import json
import logging
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.proxy import Proxy
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.kubernetes.api import credentials as module
from oz_agent_worker.worker.backends.kubernetes.api import tls
from oz_agent_worker.worker.backends.kubernetes.api.credentials import (
    SERVICE_ACCOUNT,
    Credentials,
    CredentialsError,
    load_credentials,
)
from oz_agent_worker.worker.backends.kubernetes.api.identity import Cluster, Pem
from tests.cluster.certificates import Authority, KeyPair
from tests.unit.worker.backends.kubernetes.tls_server import tls_server, who_am_i, write_pair

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Clock:
    """Epoch seconds that change only when a test moves them."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test")


@pytest.fixture
def service_account(tmp_path: Path, authority: Authority) -> Path:
    """A folder as Kubernetes mounts it into a Pod."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("pod-token\n")
    (folder / "namespace").write_text("agents")
    (folder / "ca.crt").write_bytes(authority.certificate)
    return folder


def write_kubeconfig(path: Path, *, server: str = "https://h:6443", user: Any = None, **cluster: Any) -> Path:
    """Write a kubeconfig whose context has the file's name."""
    name = path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": "k", "user": "u", "namespace": f"ns-of-{name}"}}],
        "clusters": [{"name": "k", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(json.dumps(content))
    return path


def load(path: Path, clock: Clock | None = None, **environ: str) -> Credentials:
    return load_credentials(str(path), environ=environ, clock=clock or Clock())


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def token_of(credentials: Credentials, *, force_refresh: bool = False) -> str:
    return (await credentials.headers(force_refresh))["Authorization"].removeprefix("Bearer ")


# Where they are looked for


async def test_in_a_pod(service_account: Path, authority: Authority, tmp_path: Path) -> None:
    found = load_credentials(None, environ={**POD, "HOME": str(tmp_path)}, service_account=service_account)
    assert (found.server, found.namespace) == ("https://10.0.0.1:443", "agents")
    assert found.description == "in-cluster service account"
    assert await found.headers() == {"Authorization": "Bearer pod-token"}
    context = found.ssl_context()
    assert context is not None
    async with tls_server(authority, tmp_path) as port:
        assert await who_am_i(port, context) == "nobody"


def test_in_a_pod_with_an_ipv6_address(service_account: Path) -> None:
    environ = {**POD, "KUBERNETES_SERVICE_HOST": "fd00:10::1"}
    found = load_credentials(None, environ=environ, service_account=service_account)
    assert found.server == "https://[fd00:10::1]:443"


def test_in_a_pod_without_a_namespace_or_an_authority(service_account: Path) -> None:
    (service_account / "namespace").unlink()
    (service_account / "ca.crt").unlink()
    found = load_credentials(None, environ=POD, service_account=service_account)
    assert found.namespace is None
    with pytest.raises(CredentialsError, match=r"certificate authority .*ca\.crt cannot be read"):
        found.ssl_context()


def test_the_order_of_places(service_account: Path, tmp_path: Path) -> None:
    explicit = write_kubeconfig(tmp_path / "explicit")
    listed = write_kubeconfig(tmp_path / "listed")
    write_kubeconfig(tmp_path / ".kube/config")
    environ = {**POD, "KUBECONFIG": str(listed), "HOME": str(tmp_path)}

    def found(kubeconfig: str | None = None) -> str:
        return load_credentials(kubeconfig, environ=environ, service_account=service_account).description

    assert found(str(explicit)) == found("~/explicit") == 'context "explicit" of ~/explicit'
    assert found() == "in-cluster service account"
    (service_account / "token").unlink()
    assert found() == 'context "listed" of ~/listed'
    environ["KUBECONFIG"] = ""
    assert found() == 'context "config" of ~/.kube/config'


def test_a_context_that_is_asked_for_comes_from_a_kubeconfig(service_account: Path, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "listed")
    environ = {**POD, "KUBECONFIG": str(path), "HOME": "/root-of-nobody"}
    found = load_credentials(None, environ=environ, context="listed", service_account=service_account)
    assert found.description == f'context "listed" of {path}'
    assert found.namespace == "ns-of-listed"


def test_the_listed_files_are_merged_and_missing_ones_skipped(tmp_path: Path) -> None:
    one = write_kubeconfig(tmp_path / "one", server="https://one")
    two = write_kubeconfig(tmp_path / "two", server="https://two")
    environ = {"KUBECONFIG": f"{tmp_path}/missing::{two}:{one}:{two}"}
    assert load_credentials(None, environ=environ).namespace == "ns-of-two"
    other = load_credentials(None, environ=environ, context="one")
    assert (other.namespace, other.server) == ("ns-of-one", "https://two")


def test_a_relative_kubeconfig_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "config", **{"certificate-authority": "ca.crt"})
    monkeypatch.chdir(tmp_path)
    found = load_credentials("config", environ={})
    with pytest.raises(CredentialsError, match=f"{tmp_path}/ca.crt cannot be read"):
        found.ssl_context()


def test_a_kubeconfig_that_points_nowhere(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(
        CredentialsError, match=f"{nowhere}, which backend.kubernetes.kubeconfig names, does not"
    ):
        load(nowhere)
    with pytest.raises(CredentialsError, match=r"no file of \$KUBECONFIG exists: /no/1:/no/2"):
        load_credentials(None, environ={"KUBECONFIG": "/no/1:/no/2"})
    home = {"HOME": str(tmp_path)}
    with pytest.raises(
        CredentialsError, match=rf"{tmp_path}/\.kube/config does not exist and \$KUBECONFIG is"
    ):
        load_credentials(None, environ=home)
    with pytest.raises(
        CredentialsError, match=rf"no service account is mounted at {SERVICE_ACCOUNT} \(automount"
    ):
        load_credentials(None, environ={**home, **POD})


def test_a_kubeconfig_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=f"kubeconfig {tmp_path} cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "binary").write_bytes(b"token: hunter2\xff")
    with pytest.raises(CredentialsError, match="is not UTF-8 text") as caught:
        load(tmp_path / "binary")
    assert caught.value.__cause__ is None
    (tmp_path / "broken").write_text("\n\ta: 1")
    with pytest.raises(CredentialsError, match=r"broken is not valid YAML: line 2, column 1"):
        load(tmp_path / "broken")


def test_what_a_connection_needs(tmp_path: Path) -> None:
    settings = {"tls-server-name": "kubernetes", "proxy-url": "http://me:hunter2@proxy:3128"}
    found = load(write_kubeconfig(tmp_path / "c", user={"token": "hunter2"}, **settings))
    assert found.tls_server_name == "kubernetes"
    assert found.proxy == Proxy(
        "http://proxy:3128", "the kubeconfig's proxy-url", Secret("me"), Secret("hunter2")
    )
    assert found.ssl_context() is found.ssl_context()
    assert repr(found) == f'<Credentials context "c" of {tmp_path}/c: https://h:6443>'


def test_the_kubeconfig_s_proxy_wins_and_counts_for_loopback_too(tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    path = write_kubeconfig(
        tmp_path / "c", server="https://127.0.0.1:6443", **{"proxy-url": "http://proxy:3128"}
    )
    assert load_credentials(str(path), environ=environ).proxy == Proxy(
        "http://proxy:3128", "the kubeconfig's proxy-url"
    )


@pytest.mark.parametrize(
    ("no_proxy", "proxy"),
    [("", Proxy("http://proxy:3128", "HTTPS_PROXY")), ("10.0.0.0/8", None), ("10.0.0.1", None)],
)
def test_in_a_pod_the_environment_s_proxy_counts_as_for_client_go(
    service_account: Path, no_proxy: str, proxy: Proxy | None
) -> None:
    environ = {**POD, "HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy}
    assert load_credentials(None, environ=environ, service_account=service_account).proxy == proxy


def test_an_invalid_proxy_variable_is_reported_without_its_value(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "c")
    with pytest.raises(
        CredentialsError, match=r"^HTTPS_PROXY must be the address of an HTTP proxy"
    ) as caught:
        load(path, HTTPS_PROXY="socks5://me:hunter2@proxy:1080")
    assert "hunter2" not in str(caught.value)


# Who one is


async def test_anonymous_over_plain_http(tmp_path: Path) -> None:
    found = load(write_kubeconfig(tmp_path / "c", server="http://127.0.0.1:8001/"))
    assert found.server == "http://127.0.0.1:8001"
    assert found.ssl_context() is None
    assert await found.headers() == {}


async def test_token_and_password(tmp_path: Path) -> None:
    found = load(write_kubeconfig(tmp_path / "c", user={"token": "t0ken\n"}))
    assert await found.headers() == {"Authorization": "Bearer t0ken"}
    found = load(write_kubeconfig(tmp_path / "c", user={"username": "me", "password": "pä:ss"}))
    assert await found.headers() == {"Authorization": f"Basic {encoded('me:pä:ss'.encode())}"}


@pytest.mark.parametrize("token", ["hunter2\r\nX-Evil: 1", "hunter2 x", "hünter2"])
async def test_a_token_that_is_no_valid_header_value(tmp_path: Path, token: str) -> None:
    found = load(write_kubeconfig(tmp_path / "c", user={"token": token}))
    with pytest.raises(
        CredentialsError, match=r'the token of context "c" of \S+ is no bearer token'
    ) as caught:
        await found.headers()
    assert token not in str(caught.value)


async def test_a_rotating_token_file(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    found = load(write_kubeconfig(tmp_path / "c", user={"tokenFile": "token", "token": "loses"}), clock)
    file.write_text("first\n")
    assert await token_of(found) == "first"
    file.write_text("second")
    clock.now += 59.9
    assert await token_of(found) == "first"
    clock.now += 0.1
    assert await token_of(found) == "second"
    file.write_text("third")
    assert await token_of(found, force_refresh=True) == "third"
    file.write_text("fourth")
    clock.now -= 3600
    assert await token_of(found) == "fourth", "a clock that is set back delays nothing"
    for break_it in (lambda: file.write_text(""), file.unlink):
        break_it()
        clock.now += 60
        assert await token_of(found) == "fourth"
    assert caplog.text.count("what was read before stays in use") == 1
    assert f"the token in {file} is empty" in caplog.text
    file.write_text("fifth")
    clock.now += 10
    assert await token_of(found) == "fifth", "files that cannot be used are read again soon"


async def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    found = load(write_kubeconfig(tmp_path / "c", user={"tokenFile": "token"}))
    with pytest.raises(CredentialsError, match=f"{tmp_path}/token cannot be read: No such file"):
        await found.headers()
    found = load(write_kubeconfig(tmp_path / "c", user={"tokenFile": "token", "token": "beside-it"}))
    assert await token_of(found) == "beside-it"


async def known_as(credentials: Credentials, port: int, *, force_refresh: bool = False) -> str:
    """Return the name by which a server knows a connection that is opened now."""
    await credentials.headers(force_refresh)
    context = credentials.ssl_context()
    assert context is not None
    return await who_am_i(port, context)


async def test_k1_a_rotating_client_certificate(
    tmp_path: Path, authority: Authority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair(authority.client("first"), tmp_path, "me")
    user = {"client-certificate": "me.crt", "client-key": "me.key"}
    path = write_kubeconfig(
        tmp_path / "c", user=user, **{"certificate-authority-data": encoded(authority.certificate)}
    )
    found = load(path, clock)
    async with tls_server(authority, tmp_path) as port:
        assert (await known_as(found, port), found.context_version) == ("first", 1)
        before = found.ssl_context()
        write_pair(authority.client("second"), tmp_path, "me")
        clock.now += 59
        assert (await known_as(found, port), found.context_version) == ("first", 1)
        clock.now += 1
        assert (await known_as(found, port), found.context_version) == ("second", 2)
        assert found.ssl_context() is not before, "connections of the old context keep the old certificate"
        # The key of the next certificate is not there yet.
        third = authority.client("third")
        write_pair(KeyPair(third.certificate, authority.client("other").key), tmp_path, "me")
        assert (await known_as(found, port, force_refresh=True), found.context_version) == ("second", 2)
        assert "what was read before stays in use: user 'u': client-key" in caplog.text
        assert "is not the key of the certificate in" in caplog.text
        write_pair(third, tmp_path, "me")
        clock.now += 10
        assert (await known_as(found, port), found.context_version) == ("third", 3)


def project(volume: Path, **files: bytes) -> None:
    """Replace all files of a projected volume at once, as the kubelet does: one link leads to them all."""
    version = volume / f"..{len(list(volume.iterdir()))}"
    version.mkdir(parents=True)
    for name, content in files.items():
        (version / name.replace("_", ".")).write_bytes(content)
        link = volume / name.replace("_", ".")
        if not link.is_symlink():
            link.symlink_to(f"..data/{link.name}")
    (volume / "..data_tmp").symlink_to(version.name)
    (volume / "..data_tmp").rename(volume / "..data")


async def test_k1_the_rotating_authority_of_a_pod(
    tmp_path: Path, authority: Authority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    volume, other = tmp_path / "serviceaccount", Authority.create("the next")
    volume.mkdir()
    old, both = authority.certificate, authority.certificate + other.certificate
    project(volume, ca_crt=old, token=b"first")
    found = load_credentials(None, environ=POD, service_account=volume, clock=clock)
    async with tls_server(authority, tmp_path) as port, tls_server(other, tmp_path) as next_port:
        assert await known_as(found, port) == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await known_as(found, next_port)
        project(volume, ca_crt=both, token=b"second")
        with pytest.raises(ssl.SSLCertVerificationError):
            await known_as(found, next_port)
        clock.now += 60
        assert await known_as(found, next_port) == await known_as(found, port) == "nobody"
        assert (await token_of(found), found.context_version) == ("second", 2)
        project(volume, ca_crt=other.certificate, token=b"third")
        found.read_again()
        assert await known_as(found, next_port) == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await known_as(found, port)
    assert (
        caplog.messages
        == ["The certificates of in-cluster service account have changed; connections use them from here on"]
        * 2
    )


@pytest.mark.parametrize("name", ["certificate-authority", "certificate-authority-data"])
async def test_k1_the_rotating_authority_of_a_kubeconfig(
    name: str, tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    other = Authority.create("the next")

    def write(current: Authority) -> Path:
        (tmp_path / "ca.crt").write_bytes(current.certificate)
        value = "ca.crt" if name == "certificate-authority" else encoded(current.certificate)
        return write_kubeconfig(tmp_path / "c", **{name: value})

    found = load(write(authority), clock)
    async with tls_server(other, tmp_path) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await known_as(found, port)
        write(other)
        clock.now += 60
        assert await known_as(found, port) == "nobody"


@pytest.mark.parametrize("broken", ["", "-----BEGIN CERTIFICATE-----\nMII", "no certificate"])
async def test_k1_an_authority_that_is_written_at_the_moment_stays_the_one_before(
    broken: str, tmp_path: Path, authority: Authority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.certificate)
    found = load(write_kubeconfig(tmp_path / "c", **{"certificate-authority": "ca.crt"}), clock)
    async with tls_server(authority, tmp_path) as port:
        assert await known_as(found, port) == "nobody"
        file.write_text(broken)
        for _ in range(20):
            clock.now += 60
            assert await known_as(found, port) == "nobody"
        assert found.context_version == 1
        assert caplog.text.count(f"{file} contains no usable certificate") == 1
        file.unlink()
        assert await known_as(found, port, force_refresh=True) == "nobody"


def test_k1_files_that_change_while_they_are_read_are_read_again(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.certificate)
    found = load(write_kubeconfig(tmp_path / "c", **{"certificate-authority": "ca.crt"}), clock)
    before = found.ssl_context()
    build = tls.build_context

    def build_slowly(cluster: Cluster, certificate: tuple[Pem, Pem] | None) -> ssl.SSLContext | None:
        context = build(cluster, certificate)
        file.write_bytes(Authority.create("third").certificate)
        return context

    monkeypatch.setattr(module, "build_context", build_slowly)
    file.write_bytes(Authority.create("second").certificate)
    found.read_again()
    assert (found.ssl_context(), found.context_version) == (before, 1)
    monkeypatch.undo()
    found.read_again()
    assert found.context_version == 2


async def test_k1_requests_at_a_high_rate_read_the_files_once_a_minute(
    service_account: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_credentials(None, environ=POD, service_account=service_account, clock=clock)
    found.ssl_context()
    await found.headers()
    read = Path.read_bytes
    files: list[str] = []

    def spy(path: Path) -> bytes:
        files.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    for _ in range(600):
        await found.headers()
        clock.now += 0.1
    assert files == []
    await found.headers()
    assert files == ["ca.crt", "token"]


async def test_k1_the_kubeconfig_itself_is_read_again(tmp_path: Path, clock: Clock) -> None:
    path = write_kubeconfig(tmp_path / "c", user={"token": "first"})
    found = load(path, clock)
    assert await token_of(found) == "first"
    write_kubeconfig(path, user={"token": "second"}, **{"tls-server-name": "kubernetes"})
    assert await token_of(found) == "first"
    clock.now += 60
    assert (await token_of(found), found.tls_server_name) == ("second", "kubernetes")
    write_kubeconfig(path, user=write_plugin(tmp_path, token="third"))
    assert await token_of(found, force_refresh=True) == "third"


async def test_k1_another_current_context_is_another_cluster_and_changes_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    one = write_kubeconfig(tmp_path / "one", user={"token": "first"})
    two = write_kubeconfig(tmp_path / "two", user={"token": "other"})
    found = load_credentials(None, environ={"KUBECONFIG": f"{one}:{two}"}, clock=clock)
    write_kubeconfig(one, user={"token": "second"})
    content = json.loads(one.read_text())
    one.write_text(json.dumps({**content, "current-context": "two"}))
    clock.now += 60
    assert await token_of(found) == "second"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no context 'c'"),
        ("apiVersion: v1\nusers: [{na", "is not valid YAML"),
        (None, "does not exist"),
        ({"server": "https://elsewhere"}, "has another server or proxy-url; restart the worker"),
        ({"proxy-url": "http://elsewhere:1"}, "has another server or proxy-url; restart the worker"),
    ],
    ids=["empty", "half", "gone", "another server", "another proxy"],
)
async def test_k1_a_kubeconfig_that_cannot_be_used_any_more_leaves_what_was_read(
    text: str | dict[str, str] | None,
    said: str,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_kubeconfig(tmp_path / "c", user={"token": "hunter2"})
    found = load(path, clock)
    if text is None:
        path.unlink()
    elif isinstance(text, str):
        path.write_text(text)
    else:
        write_kubeconfig(path, user={"token": "other"}, **text)
    for _ in range(10):
        clock.now += 60
        assert await token_of(found) == "hunter2"
    assert len(caplog.messages) == 1
    assert said in caplog.text
    assert "hunter2" not in caplog.text


def test_a_client_certificate_that_does_not_fit_its_key(tmp_path: Path, authority: Authority) -> None:
    user = {
        "client-certificate-data": encoded(authority.client("one").certificate),
        "client-key-data": encoded(authority.client("two").key),
    }
    found = load(write_kubeconfig(tmp_path / "c", user=user))
    for _ in range(2):
        with pytest.raises(CredentialsError, match="client-key-data is not the key of the certificate in"):
            found.ssl_context()


def write_plugin(folder: Path, **status: str) -> dict[str, Any]:
    """Write a plugin that gives ``status``, and return the kubeconfig's ``exec`` for it."""
    version = "client.authentication.k8s.io/v1"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    (folder / "answer.json").write_text(answer)
    script = folder / "login"
    script.write_text(f"#!/bin/sh\nexec /bin/cat '{folder}/answer.json'\n")
    script.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": version, "command": "./login", "interactiveMode": "Never"}}


async def test_an_exec_plugin_that_gives_tokens(tmp_path: Path, clock: Clock) -> None:
    found = load(write_kubeconfig(tmp_path / "c", user=write_plugin(tmp_path, token="first")), clock)
    assert await token_of(found) == "first"
    write_plugin(tmp_path, token="second")
    clock.now += 10
    assert await token_of(found) == "first"
    assert await token_of(found, force_refresh=True) == "second"
    write_plugin(tmp_path, token="hunter2\nx")
    clock.now += 10
    with pytest.raises(CredentialsError, match="the exec plugin's token is no bearer token") as caught:
        await found.headers(force_refresh=True)
    assert "hunter2" not in str(caught.value)


async def test_an_exec_plugin_that_gives_certificates(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    def issue(name: str) -> dict[str, Any]:
        pair = authority.client(name)
        return write_plugin(
            tmp_path,
            clientCertificateData=pair.certificate.decode(),
            clientKeyData=pair.key.decode(),
        )

    trust = {"certificate-authority-data": encoded(authority.certificate)}
    found = load(write_kubeconfig(tmp_path / "c", user=issue("first"), **trust), clock)
    found.ssl_context()
    async with tls_server(authority, tmp_path) as port:
        assert (await known_as(found, port), found.context_version) == ("first", 2)
        issue("second")
        clock.now += 10
        assert (await known_as(found, port), found.context_version) == ("first", 2)
        assert (await known_as(found, port, force_refresh=True), found.context_version) == ("second", 3)


async def test_k1_the_authority_rotates_beside_an_exec_plugins_certificate(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    pair, other = authority.client("me"), Authority.create("the next")
    plugin = write_plugin(
        tmp_path, clientCertificateData=pair.certificate.decode(), clientKeyData=pair.key.decode()
    )
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    path = write_kubeconfig(tmp_path / "c", user=plugin, **{"certificate-authority": "ca.crt"})
    found = load(path, clock)
    async with tls_server(authority, tmp_path) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await known_as(found, port)
        (tmp_path / "ca.crt").write_bytes(authority.certificate)
        clock.now += 60
        assert await known_as(found, port) == "me"


async def test_an_identity_in_the_file_wins_over_a_plugin(tmp_path: Path) -> None:
    user = {**write_plugin(tmp_path, token="the plugin's"), "token": "the-file's"}
    assert await token_of(load(write_kubeconfig(tmp_path / "c", user=user))) == "the-file's"


async def test_nothing_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for user in (
        {"token": "hunter2"},
        {"username": "u", "password": "hunter2"},
        write_plugin(tmp_path, token="hunter2"),
    ):
        found = load(write_kubeconfig(tmp_path / "c", user=user))
        await found.headers()
        assert "hunter2" not in repr(vars(found))
    assert "hunter2" not in caplog.text
