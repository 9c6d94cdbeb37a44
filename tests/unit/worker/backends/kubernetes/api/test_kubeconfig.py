"""Kubeconfig files: parsing, merging, selection, and the errors on the way."""

import base64
import textwrap
from pathlib import Path

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.kubernetes.api.identity import CredentialsError
from oz_agent_worker.worker.backends.kubernetes.api.kubeconfig import (
    Kubeconfig,
    Selection,
    merge_kubeconfigs,
    parse_kubeconfig,
)

FILE = Path("/home/me/.kube/config")


def parse(text: str, path: Path = FILE) -> Kubeconfig:
    return parse_kubeconfig(textwrap.dedent(text), path)


def select(
    *, cluster: str = "server: https://h:1", user: str = "token: t0ken", context: str = ""
) -> Selection:
    """Select from a kubeconfig whose one cluster, user and context have these fields, in YAML."""

    def block(fields: str) -> str:
        return textwrap.indent(textwrap.dedent(fields), " " * 4)

    return parse(
        "current-context: c\n"
        f"contexts:\n- name: c\n  context:\n    cluster: k\n    user: u\n{block(context)}\n"
        f"clusters:\n- name: k\n  cluster:\n{block(cluster)}\n"
        f"users:\n- name: u\n  user:\n{block(user)}\n"
    ).select()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_complete_file() -> None:
    chosen = select(
        context="namespace: agents",
        cluster=f"""\
        server: https://api.example:6443/prefix/
        certificate-authority-data: {encoded("the CA")}
        tls-server-name: kubernetes
        proxy-url: http://proxy:3128
        """,
        user=f"""\
        client-certificate-data: {encoded("the certificate")}
        client-key-data: {encoded("the key")}
        """,
    )
    assert (chosen.context, chosen.file, chosen.namespace) == ("c", FILE, "agents")
    cluster, user = chosen.cluster, chosen.user
    assert cluster.server == "https://api.example:6443/prefix"
    assert cluster.authority is not None
    assert cluster.authority.data == Secret("the CA")
    assert (cluster.tls_server_name, cluster.proxy_url) == ("kubernetes", "http://proxy:3128")
    assert not cluster.insecure
    assert user.certificate is not None
    assert [pem.data for pem in user.certificate] == [Secret("the certificate"), Secret("the key")]


@pytest.mark.parametrize(("server", "taken"), [
    ("HTTPS://Host:6443", "https://Host:6443"),
    ("https://h/prefix/", "https://h/prefix"),
    ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
    ("HTTP://127.0.0.1:8001", "http://127.0.0.1:8001"),
])  # fmt: skip
def test_k14_a_scheme_counts_in_any_case(server: str, taken: str) -> None:
    assert select(cluster=f"server: '{server}'").cluster.server == taken


@pytest.mark.parametrize(("url", "taken"), [
    ("http://p", "http://p:80"),
    ("HTTPS://p:3128/", "https://p:3128"),
    ("http://me:hunter2@p:3128", "http://me:hunter2@p:3128"),
])  # fmt: skip
def test_k14_a_proxy_that_is_taken(url: str, taken: str) -> None:
    assert select(cluster=f"{{server: 'https://h', proxy-url: '{url}'}}").cluster.proxy_url == taken


def test_relative_paths_start_at_the_files_folder() -> None:
    chosen = select(
        cluster="{server: 'https://h', certificate-authority: ca.crt}",
        user="{client-certificate: pki/me.crt, client-key: /abs/me.key, tokenFile: ../token}",
    )
    assert chosen.cluster.authority is not None
    assert chosen.cluster.authority.path == FILE.parent / "ca.crt"
    assert chosen.user.certificate is not None
    certificate, key = chosen.user.certificate
    assert (certificate.path, key.path) == (FILE.parent / "pki/me.crt", Path("/abs/me.key"))
    assert chosen.user.token_file == FILE.parent / "../token"


def test_data_wins_over_the_file_beside_it() -> None:
    chosen = select(
        cluster=f"{{server: 'https://h', certificate-authority: ca.crt, "
        f"certificate-authority-data: {encoded('inline')}}}"
    )
    assert chosen.cluster.authority is not None
    assert chosen.cluster.authority.path is None
    assert chosen.cluster.authority.data == Secret("inline")


def test_base64_may_be_folded_over_lines() -> None:
    text = encoded("a certificate authority of some length")
    cluster = f"server: https://h\ncertificate-authority-data: |\n  {text[:20]}\n  {text[20:]}\n"
    authority = select(cluster=cluster).cluster.authority
    assert authority is not None
    assert authority.data == Secret("a certificate authority of some length")


def test_a_context_without_a_user_is_anonymous() -> None:
    config = parse("""\
        contexts: [{name: c, context: {cluster: k}}]
        clusters: [{name: k, cluster: {server: "http://127.0.0.1:8001"}}]
        """)
    chosen = config.select("c")
    assert chosen.user.token is None
    assert chosen.user.exec_config is None
    assert chosen.namespace is None


@pytest.mark.parametrize(("command", "resolved"), [
    ("aws", "aws"),
    ("./bin/login", str(FILE.parent / "bin/login")),
    ("/usr/bin/login", "/usr/bin/login"),
])  # fmt: skip
def test_exec_plugin(command: str, resolved: str) -> None:
    chosen = select(
        cluster="""\
        server: https://h
        extensions:
        - name: client.authentication.k8s.io/exec
          extension: {audience: 7, since: 2026-01-31}
        """,
        user=f"""\
        exec:
          apiVersion: client.authentication.k8s.io/v1
          command: {command}
          args: [--cluster, x]
          env: [{{name: PROFILE, value: dev}}]
          installHint: get it
          provideClusterInfo: true
          interactiveMode: IfAvailable
        """,
    )
    config = chosen.user.exec_config
    assert config is not None
    assert (config.command, config.args) == (resolved, ("--cluster", "x"))
    assert config.env == (("PROFILE", Secret("dev")),)
    assert (config.install_hint, config.provide_cluster_info) == ("get it", True)
    assert chosen.cluster.exec_extension == {"audience": 7, "since": "2026-01-31"}


def test_merging_keeps_the_first_of_each_name_whole() -> None:
    first = parse("""\
        contexts: [{name: c, context: {cluster: k, user: red}}]
        users: [{name: red, user: {username: first}}]
        """, Path("/a/config"))  # fmt: skip
    second = parse("""\
        current-context: c
        contexts: [{name: c, context: {cluster: other, user: other}}, {name: d, context: {cluster: k}}]
        clusters: [{name: k, cluster: {server: "https://second", certificate-authority: ca.crt}}]
        users: [{name: red, user: {username: second, password: only-in-second}}]
        """, Path("/b/config"))  # fmt: skip
    third = parse("current-context: d", Path("/c/config"))
    merged = merge_kubeconfigs([first, second, third])
    chosen = merged.select()
    assert (chosen.context, chosen.file) == ("c", Path("/a/config"))
    assert (chosen.user.username, chosen.user.password) == ("first", None)
    assert chosen.cluster.server == "https://second"
    assert chosen.cluster.authority is not None
    assert chosen.cluster.authority.path == Path("/b/ca.crt")
    assert merged.select("d").cluster.server == "https://second"
    assert merged.source == "/a/config:/b/config:/c/config"


def test_what_kubectl_writes_for_an_empty_config() -> None:
    config = parse(
        "apiVersion: v1\nkind: Config\nclusters: null\ncontexts: null\ncurrent-context: ''\nusers: null\n"
    )
    with pytest.raises(CredentialsError, match=r"no current-context.*\(none\)"):
        config.select()
    with pytest.raises(CredentialsError, match="no current-context"):
        parse("").select()


def test_a_mistake_in_another_entry_is_ignored() -> None:
    config = parse("""\
        current-context: good
        contexts: [{name: good, context: {cluster: good}}, {name: bad, context: {cluster: bad}}]
        clusters: [{name: good, cluster: {server: "https://h"}}, {name: bad, cluster: {server: 5}}]
        """)
    assert config.select().cluster.server == "https://h"
    with pytest.raises(CredentialsError, match=r"cluster 'bad': server: expected str, got int"):
        config.select("bad")


@pytest.mark.parametrize(("text", "message"), [
    ("contexts:\n- name: c\n   context: {}\n", r"/home/me/\.kube/config is not valid YAML: line 3"),
    ("a: [1\n", "not valid YAML: line 2"),
    ("users: *hunter2", "not valid YAML: line 1, column 8"),
    ("token: !hunter2 x", "not valid YAML: line 1, column 8"),
    ("a: 1\n---\nb: 2\n", "not valid YAML: line 2"),
    ("a: \x07", "a character that YAML does not allow"),
    ("just text", "is not a kubeconfig: expected mapping, got str"),
    ("kind: Pod\napiVersion: v1", "its kind is 'Pod'"),
    ("clusters: {name: x}", "clusters: expected list, got mapping"),
    ("clusters: [{cluster: {}}]", "missing required field name"),
    ("clusters: [{name: 5}]", r"clusters\[0\]\.name: expected str, got int \(put quotes around it\)"),
    ("users: [{name: a}, {name: a}]", "two users with the name 'a'"),
])  # fmt: skip
def test_a_file_that_is_no_kubeconfig(text: str, message: str) -> None:
    with pytest.raises(CredentialsError, match=message) as caught:
        parse_kubeconfig(text, FILE)
    assert "hunter2" not in str(caught.value)


def test_names_that_are_not_there_are_answered_with_those_that_are() -> None:
    config = parse("""\
        contexts: [{name: b, context: {cluster: k, user: u}}, {name: a, context: {cluster: l, user: u}}]
        clusters: [{name: l, cluster: {server: "https://h"}}]
        users: [{name: v}]
        """)
    with pytest.raises(CredentialsError, match=r"no current-context; .*\(a, b\)"):
        config.select()
    with pytest.raises(CredentialsError, match=r"no context 'z'; its contexts: a, b"):
        config.select("z")
    with pytest.raises(CredentialsError, match=r"no cluster 'k', which context 'b' names; its clusters: l"):
        config.select("b")
    with pytest.raises(CredentialsError, match=r"no user 'u', which context 'a' names; its users: v"):
        config.select("a")


@pytest.mark.parametrize(("cluster", "message"), [
    ("{}", "has no server"),
    ("server: api:6443", "server 'api:6443' has no scheme, .* write https://api:6443"),
    ("server: 10.0.0.1", "server '10.0.0.1' has no scheme, .* write https://10.0.0.1"),
    ("server: '[fd00::1]:6443'", r"server '\[fd00::1\]:6443' has no scheme"),
    ("server: api:6443/path", "server must be an address such as"),
    ("server: ftp://api", "server must be an address such as"),
    ("server: //api:6443", "server must be an address such as"),
    ("server: me:hunter2@api:6443", "server must be an address such as"),
    ("server: https://", "server must be an address such as"),
    ("server: https://h:port", "server must be an address such as"),
    ("server: https://h/?a=b", "server must be an address such as"),
    ("server: https://me:hunter2@h", "server holds a user name"),
    ("{server: 'https://h', proxy-url: 'socks5://me:hunter2@p'}",
     "cluster 'k': proxy-url must be the address of an HTTP proxy: it names a SOCKS proxy.*`ssh -L`"),
    ("{server: 'https://h', proxy-url: 'socks5h://p:1080'}", "it names a SOCKS proxy"),
    ("{server: 'https://h', proxy-url: 'SOCKS4://p:1080'}", "it names a SOCKS proxy"),
    ("{server: 'https://h', proxy-url: 'me:hunter2@p:3128'}", "proxy-url has no scheme; begin it"),
    ("{server: 'https://h', proxy-url: 'ftp://p'}", "proxy-url must be the address of an HTTP proxy, such"),
    ("{server: 'https://h', certificate-authority-data: '***'}",
     r"/home/me/\.kube/config: cluster 'k': certificate-authority-data is not valid base64"),
    ("{server: 'https://h', insecure-skip-tls-verify: true, certificate-authority: ca}", "contradict"),
    ("{server: 'https://h', insecure-skip-tls-verify: maybe}", "expected bool, got str"),
])  # fmt: skip
def test_k14_a_cluster_that_cannot_be_used(cluster: str, message: str) -> None:
    with pytest.raises(CredentialsError, match=message) as caught:
        select(cluster=cluster)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("user", "message"), [
    ("auth-provider: {name: gcp, config: {access-token: hunter2}}",
     "auth-provider 'gcp', which Kubernetes removed in 1.26.*exec plugin"),
    ("auth-provider: {name: oidc, config: {id-token: hunter2}}",
     "auth-provider 'oidc', which this program does not run; .*kubectl oidc-login"),
    ("{as-groups: [system:masters], token: hunter2}", "impersonates"),
    ("password: hunter2", "has a password but no username"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, env: [{name: '', value: hunter2}]}",
     "exec.env has the name ''"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, env: [{name: a=b, value: hunter2}]}",
     "exec.env has the name 'a=b'"),
    ("{as: admin, token: hunter2}", "impersonates"),
    ("client-certificate: me.crt", "a client-certificate but no client-key"),
    ("client-key: me.key", "a client-key but no client-certificate"),
    ("{username: me, password: hunter2, token: hunter2}", "both a token and a username"),
    ("{client-certificate: a, client-key-data: 'hunter2!'}", "user 'u': client-key-data is not valid base64"),
    ("password: 12345", r"password: expected str, got int \(put quotes around it\)"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1}", "no command"),
    ("exec: {command: a}", "apiVersion is None"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: a}", "v1alpha1.*update the plugin"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, interactiveMode: Always}",
     "a worker has no terminal"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, interactiveMode: Sometimes}",
     "must be Never or IfAvailable"),
    ("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, args: [5]}",
     r"exec\.args\[0\]: expected str, got int"),
])  # fmt: skip
def test_k14_a_user_that_cannot_be_used(user: str, message: str) -> None:
    with pytest.raises(CredentialsError, match=message) as caught:
        select(user=user)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("login", ["{token: hunter2}", "{username: me, password: hunter2}"])
def test_no_repr_shows_a_secret(login: str) -> None:
    text = f"""\
        current-context: c
        contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
        clusters: [{{name: k, cluster: {{server: "https://h", proxy-url: "http://me:hunter2@p"}}}}]
        users:
        - name: u
          user:
            <<: {login}
            client-certificate: me.crt
            client-key-data: {encoded("hunter2")}
            exec:
              apiVersion: client.authentication.k8s.io/v1
              command: login
              args: [--password=hunter2]
              env: [{{name: PASSWORD, value: hunter2}}]
        """
    config = parse(text)
    shown = f"{config!r} {config.select()!r}"
    assert "hunter2" not in shown
    assert encoded("hunter2") not in shown
