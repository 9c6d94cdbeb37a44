"""Exec plugins: the protocol, and real programs run by it."""

import asyncio
import base64
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.backends.kubernetes.api.exec_plugin import (
    ExecPlugin,
    exec_info,
    parse_exec_credential,
)
from oz_agent_worker.worker.backends.kubernetes.api.identity import Cluster, CredentialsError, ExecConfig, Pem

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"
NOON = 1767268800.0  # 2026-01-01T12:00:00Z
CLUSTER = Cluster("https://h:6443", tls_server_name="kubernetes", exec_extension={"audience": "x"})


def reply(api_version: str = V1, kind: str = "ExecCredential", **status: object) -> bytes:
    return json.dumps({"apiVersion": api_version, "kind": kind, "status": status}).encode()


class Clock:
    """Epoch seconds that change only when a test moves them."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Script:
    """A plugin whose answer tests set, and which notes each of its runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "login"
        self._runs = folder / "runs"
        self.environment_file = folder / "environment.json"
        self.says("")

    def says(self, output: bytes | str, *, body: str = "") -> None:
        text = output.decode() if isinstance(output, bytes) else output
        self.write(f"{body}\nsys.stdout.write({text!r})")

    def write(self, body: str) -> None:
        self.path.write_text(
            f"#!{sys.executable} -S\nimport json, os, sys\n"
            f"open({str(self._runs)!r}, 'a').write('x')\n"
            f"open({str(self.environment_file)!r}, 'w').write(json.dumps(dict(os.environ)))\n{body}\n"
        )
        self.path.chmod(stat.S_IRWXU)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text()) if self._runs.exists() else 0

    @property
    def environment(self) -> dict[str, str]:
        seen: dict[str, str] = json.loads(self.environment_file.read_text())
        return seen


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def plugin(
    script: Script,
    clock: Clock,
    *,
    environ: Mapping[str, str] | None = None,
    cluster: Cluster = CLUSTER,
    timeout: float = 60.0,
    **config: Any,
) -> ExecPlugin:
    settings = {"command": str(script.path), "api_version": V1, **config}
    return ExecPlugin(ExecConfig(**settings), cluster, environ=environ or {}, clock=clock, timeout=timeout)


async def token_of(plugin: ExecPlugin, *, force: bool = False) -> str:
    credential = await plugin.credential(force=force)
    assert credential.token is not None
    return credential.token.reveal()


# The protocol


def test_exec_info_without_cluster() -> None:
    assert json.loads(exec_info(ExecConfig("login", V1BETA1), CLUSTER, None)) == {
        "apiVersion": V1BETA1,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


def test_exec_info_with_cluster() -> None:
    config = ExecConfig("login", V1, provide_cluster_info=True)
    assert json.loads(exec_info(config, CLUSTER, "the CA"))["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://h:6443",
            "tls-server-name": "kubernetes",
            "certificate-authority-data": base64.b64encode(b"the CA").decode(),
            "config": {"audience": "x"},
        },
    }
    insecure = Cluster("https://h", insecure=True, proxy_url="http://p:1")
    assert json.loads(exec_info(config, insecure, None))["spec"]["cluster"] == {
        "server": "https://h",
        "insecure-skip-tls-verify": True,
        "proxy-url": "http://p:1",
    }


@pytest.mark.parametrize("api_version", [V1, V1BETA1])
def test_a_token_with_an_expiry(api_version: str) -> None:
    output = reply(api_version, token="t0ken", expirationTimestamp="2026-01-01T13:00:00+01:00")
    credential = parse_exec_credential(output, api_version)
    assert (credential.token, credential.expires_at) == (Secret("t0ken"), NOON)
    assert credential.certificate is None


@pytest.mark.parametrize(
    "text", ["2026-01-01T12:00:00Z", "2026-01-01T12:00:00.000000000Z", "2026-01-01T12:00:00"]
)
def test_expiry_in_the_forms_that_plugins_write(text: str) -> None:
    assert parse_exec_credential(reply(token="t", expirationTimestamp=text), V1).expires_at == NOON


def test_a_client_certificate() -> None:
    credential = parse_exec_credential(reply(clientCertificateData="the cert", clientKeyData="hunter2"), V1)
    assert credential.certificate is not None
    assert [pem.data for pem in credential.certificate] == [Secret("the cert"), Secret("hunter2")]
    assert "hunter2" not in repr(credential)


@pytest.mark.parametrize(("output", "message"), [
    (b"hunter2", "not an ExecCredential in JSON"),
    (b"", "not an ExecCredential in JSON"),
    (b'"hunter2"', "not an ExecCredential in JSON"),
    (reply(kind="hunter2", token="hunter2"), "another kind than ExecCredential"),
    (reply("hunter2", token="hunter2"), f"another apiVersion than {V1}"),
    (reply(V1BETA1, token="hunter2"), f"another apiVersion than {V1}"),
    (reply(), "neither a token nor a client certificate"),
    (json.dumps({"apiVersion": V1, "kind": "ExecCredential"}).encode(), "neither a token nor"),
    (reply(clientCertificateData="c"), "only one of"),
    (reply(clientKeyData="hunter2", token="t"), "only one of"),
    (reply(token=5), "Expected `str"),
    (reply(token="t", expirationTimestamp="hunter2"), "expirationTimestamp is no RFC 3339 time"),
])  # fmt: skip
def test_output_that_is_no_credential(output: bytes, message: str) -> None:
    with pytest.raises(CredentialsError, match=message) as caught:
        parse_exec_credential(output, V1)
    assert "hunter2" not in str(caught.value)


# Real programs


async def test_the_program_gets_its_arguments_and_environment(script: Script, clock: Clock) -> None:
    script.write(
        "credential = {'apiVersion': os.environ['VERSION'], 'kind': 'ExecCredential',\n"
        "              'status': {'token': '+'.join(sys.argv[1:])}}\n"
        "print(json.dumps(credential))"
    )
    ca = Pem("ca", data=Secret("the CA"))
    runner = plugin(
        script,
        clock,
        environ={"PATH": "/usr/bin", "WARP_API_KEY": "hunter2", "PROFILE": "inherited"},
        cluster=Cluster("https://h", authority=ca),
        args=("a", "b c"),
        env=(("PROFILE", Secret("own")), ("VERSION", Secret(V1))),
        provide_cluster_info=True,
    )
    assert await token_of(runner) == "a+b c"
    seen = script.environment
    info = json.loads(seen["KUBERNETES_EXEC_INFO"])
    assert info["spec"]["cluster"]["certificate-authority-data"] == base64.b64encode(b"the CA").decode()
    assert (seen["PATH"], seen["PROFILE"]) == ("/usr/bin", "own")
    assert "WARP_API_KEY" not in seen


async def test_the_command_is_sought_on_the_given_path(script: Script, clock: Clock) -> None:
    script.says(reply(token="found"))
    runner = plugin(script, clock, command="login", environ={"PATH": str(script.path.parent)})
    assert await token_of(runner) == "found"


async def test_without_an_expiry_the_credential_is_kept_until_it_is_refused(
    script: Script, clock: Clock
) -> None:
    script.says(reply(token="first"))
    runner = plugin(script, clock)
    assert await token_of(runner) == "first"
    script.says(reply(token="second"))
    clock.now += 1e6
    assert await token_of(runner) == "first"
    assert await token_of(runner, force=True) == "second"
    assert script.runs == 2


@pytest.mark.parametrize(("lifetime", "margin"), [(3600, 60), (100, 20)])
async def test_a_credential_is_replaced_shortly_before_it_expires(
    script: Script, clock: Clock, lifetime: int, margin: int
) -> None:
    expiry = f"2026-01-01T{12 + lifetime // 3600:02}:{lifetime % 3600 // 60:02}:{lifetime % 60:02}Z"
    script.says(reply(token="first", expirationTimestamp=expiry))
    runner = plugin(script, clock)
    assert await token_of(runner) == "first"
    script.says(reply(token="second"))
    clock.now = NOON + lifetime - margin - 1
    assert await token_of(runner) == "first"
    clock.now += 1
    assert await token_of(runner) == "second"


async def test_callers_at_the_same_time_share_one_run(script: Script, clock: Clock) -> None:
    script.says(reply(token="shared"))
    runner = plugin(script, clock)
    assert await asyncio.gather(*(token_of(runner) for _ in range(20))) == ["shared"] * 20
    assert script.runs == 1
    clock.now += 60
    await asyncio.gather(*(token_of(runner, force=True) for _ in range(20)))
    assert script.runs == 2


async def test_callers_at_the_same_time_share_a_failure(script: Script, clock: Clock) -> None:
    script.write("sys.exit(3)")
    runner = plugin(script, clock)
    results = await asyncio.gather(*(runner.credential() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [CredentialsError] * 5
    assert script.runs == 1
    script.says(reply(token="recovered"))
    assert await token_of(runner) == "recovered"


async def test_a_refusal_right_after_a_run_does_not_run_again(script: Script, clock: Clock) -> None:
    script.says(reply(token="t"))
    runner = plugin(script, clock)
    await token_of(runner)
    clock.now += 1
    await token_of(runner, force=True)
    assert script.runs == 1
    clock.now += 1
    await token_of(runner, force=True)
    assert script.runs == 2


async def test_a_cancelled_caller_takes_its_program_along_and_the_next_runs_again(
    script: Script, clock: Clock, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script.write(f"open({str(fifo)!r}, 'w').write(str(os.getpid()))\nimport time; time.sleep(600)")
    runner = plugin(script, clock)
    first = asyncio.create_task(runner.credential())
    pid = int(await asyncio.to_thread(fifo.read_text))
    second = asyncio.create_task(token_of(runner))
    await asyncio.sleep(0)
    script.says(reply(token="second run"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "second run"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_while_the_credential_holds_a_failing_replacement_is_no_failure(
    script: Script, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    script.says(reply(token="first", expirationTimestamp="2026-01-01T13:00:00Z"))
    runner = plugin(script, clock)
    await token_of(runner)
    script.write("sys.exit('down')")
    clock.now = NOON + 3550
    assert await token_of(runner) == "first"
    assert "exit code 1; its error output:\ndown" in caplog.text
    assert await token_of(runner) == "first"
    assert script.runs == 2, "a pause lies between the tries"
    for _ in range(3):
        clock.now += 10
        assert await token_of(runner) == "first"
    assert script.runs == 5
    assert caplog.text.count("is still valid and kept") == 1, "K15"
    with pytest.raises(CredentialsError, match="down"):
        await runner.credential(force=True)
    clock.now = NOON + 3600
    with pytest.raises(CredentialsError, match="down"):
        await runner.credential()


async def test_a_program_that_fails(script: Script, clock: Clock) -> None:
    script.says(
        "hunter2", body="sys.stderr.write('x' * 5000 + ' please log in'); sys.stdout.write('hunter2')"
    )
    script.write(script.path.read_text() + "\nsys.exit(7)")
    with pytest.raises(
        CredentialsError, match=r"login failed with exit code 7; .*\n…x+ please log in"
    ) as caught:
        await plugin(script, clock).credential()
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 2300


async def test_a_program_that_is_killed(script: Script, clock: Clock) -> None:
    script.write("os.kill(os.getpid(), 9)")
    with pytest.raises(CredentialsError, match=r"exit code 137 \(SIGKILL\)"):
        await plugin(script, clock).credential()


async def test_a_program_with_bad_output(script: Script, clock: Clock) -> None:
    script.says("hunter2", body="sys.stderr.write('a warning')")
    with pytest.raises(CredentialsError, match=r"login: its output is not .*\na warning") as caught:
        await plugin(script, clock).credential()
    assert "hunter2" not in str(caught.value)


async def test_a_program_that_gives_no_answer(script: Script, clock: Clock) -> None:
    script.write("import subprocess; subprocess.run(['sleep', '600'])")
    runner = plugin(script, clock, timeout=0.2, environ={"PATH": os.environ["PATH"]})
    with pytest.raises(CredentialsError, match=r"gave no answer in 0\.2 s"):
        await runner.credential()


async def test_a_program_that_is_not_there(script: Script, clock: Clock) -> None:
    hint = "Install it with:\n  brew install login\n"
    runner = plugin(script, clock, command="no-such-login", install_hint=hint, environ={"PATH": "/nowhere"})
    with pytest.raises(
        CredentialsError, match=r"no-such-login was not found on PATH; install it\nInstall it"
    ):
        await runner.credential()
    with pytest.raises(CredentialsError, match=r"/no/login was not found; install it"):
        await plugin(script, clock, command="/no/login").credential()


async def test_a_program_that_cannot_be_started(script: Script, clock: Clock) -> None:
    script.path.write_text("#!/no/such/interpreter\n")
    with pytest.raises(CredentialsError, match="its interpreter does not exist"):
        await plugin(script, clock).credential()
    script.path.write_bytes(b"\x7fELF")
    with pytest.raises(CredentialsError, match="cannot be started: Exec format error"):
        await plugin(script, clock).credential()
    script.path.chmod(0o600)
    with pytest.raises(CredentialsError, match="cannot be started: Permission denied"):
        await plugin(script, clock).credential()
    with pytest.raises(CredentialsError, match="NUL byte") as caught:
        await plugin(script, clock, args=("hunter2\0",)).credential()
    assert "hunter2" not in str(caught.value)
