import json
import ssl
import stat
import sys
from pathlib import Path

import pytest

from tests.cluster import kubeconfig
from tests.cluster.certificates import Authority
from tests.cluster.errors import ClusterError
from tests.cluster.kubeconfig import Connection

SERVER = "https://127.0.0.1:6443"


def test_what_is_written_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    authority = Authority.create("test").certificate
    path = kubeconfig.write(
        tmp_path / "new" / "config", kubeconfig.document(SERVER, authority, {"token": "t"})
    )
    connection = Connection.from_kubeconfig(path)
    assert (connection.server, connection.headers) == (SERVER, {"Authorization": "Bearer t"})
    assert connection.authority == authority
    assert connection.ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reads_tokens_from_files_and_plugins(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    answer = json.dumps({"status": {"token": "from-plugin"}})
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({answer!r})"],
    }
    for user, token in (({"tokenFile": "token"}, "from-file"), ({"exec": plugin}, "from-plugin")):
        path = kubeconfig.write(tmp_path / "config", kubeconfig.document(SERVER, None, user))
        assert Connection.from_kubeconfig(path).headers == {"Authorization": f"Bearer {token}"}


def test_another_namespace_keeps_the_files_that_are_named(tmp_path: Path) -> None:
    content = kubeconfig.document(SERVER, None, {"tokenFile": "token"})
    path = kubeconfig.write(tmp_path / "config", content)
    moved = kubeconfig.in_namespace(path, "there")
    assert moved["contexts"][0]["context"]["namespace"] == "there"
    assert moved["users"][0]["user"]["tokenFile"] == str(tmp_path / "token")


def test_says_what_is_missing(tmp_path: Path) -> None:
    content = kubeconfig.document(SERVER, None, {})
    path = kubeconfig.write(tmp_path / "config", content | {"current-context": "other"})
    with pytest.raises(ClusterError, match="no context named 'other'"):
        Connection.from_kubeconfig(path)
