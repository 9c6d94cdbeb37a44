"""The programs behind a proxy: a control plane under a name that the proxy alone can reach."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .connect_proxy import ConnectProxy
from .programs import BIN, ControlPlane, control_plane, oz, program

LOGIN = "me:hunter2"
HEADER = "Basic bWU6aHVudGVyMg=="


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


def port_of(plane: ControlPlane) -> int:
    return int(plane.url.rpartition(":")[2])


def through(plane: ControlPlane, proxy: ConnectProxy, **more: str) -> dict[str, str]:
    """The environment of a user whose way leads through the proxy."""
    url = f"http://plane.invalid:{port_of(plane)}"
    return {**plane.env(), "WARP_SERVER_ROOT_URL": url, "HTTP_PROXY": proxy.url_with(LOGIN), **more}


def socket_url(plane: ControlPlane) -> str:
    return f"ws://plane.invalid:{port_of(plane)}/api/v1/selfhosted/worker/ws"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "worker.yaml"
    direct = {"workspace_root": str(tmp_path / "workspaces"), "oz_path": "/bin/true"}
    path.write_text(json.dumps({"worker_id": "w", "backend": {"direct": direct}}))
    return str(path)


async def test_a_user_s_command(plane: ControlPlane) -> None:
    async with ConnectProxy(port_of(plane), login=HEADER) as proxy:
        done = await asyncio.to_thread(oz, "runs", "-o", "json", env=through(plane, proxy), check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert proxy.asked[0].startswith(f"GET http://plane.invalid:{port_of(plane)}/api/v1/agent/runs?")


async def test_a_user_s_command_that_the_proxy_refuses(plane: ControlPlane) -> None:
    async with ConnectProxy(login="Basic other") as proxy:
        env = {**plane.env(), "WARP_SERVER_ROOT_URL": "https://plane.invalid"}
        env["HTTPS_PROXY"] = proxy.url_with(LOGIN)
        done = await asyncio.to_thread(oz, "runs", env=env, check=False)
    assert done.returncode == 1
    assert f"the proxy {proxy.url} (HTTPS_PROXY) answers HTTP 407" in done.stderr
    assert "hunter2" not in done.stderr


async def test_doctor(plane: ControlPlane, config: str) -> None:
    flags = ("--config-file", config, "--web-socket-url", socket_url(plane), "-o", "json")
    async with ConnectProxy(port_of(plane), login=HEADER) as proxy:
        env = through(plane, proxy)
        done = await asyncio.to_thread(oz, "doctor", *flags, env=env, check=False)
    assert done.returncode == 0, done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["control plane"]["detail"] == (
        f"{socket_url(plane)}, through the proxy {proxy.url} (HTTP_PROXY)"
    )
    assert checks["API key"]["verdict"] == "ok"
    assert "hunter2" not in done.stdout


async def test_a_worker(plane: ControlPlane, config: str) -> None:
    command = [str(BIN / "oz-agent-worker"), "--config-file", config, "--web-socket-url", socket_url(plane)]
    async with ConnectProxy(port_of(plane), login=HEADER) as proxy:
        with program(command, through(plane, proxy)) as worker:
            await asyncio.to_thread(worker.wait_for, "Listening for tasks")
            worker.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.process.wait, 20) == 0
    assert proxy.asked[0].startswith(
        f"GET http://plane.invalid:{port_of(plane)}/api/v1/selfhosted/worker/ws?"
    )
    assert "hunter2" not in worker.text


@pytest.mark.parametrize("command", [("--config-file", "{config}"), ("runs",)])
def test_a_variable_that_names_no_proxy(plane: ControlPlane, config: str, command: tuple[str, ...]) -> None:
    env = {**plane.env(), "WARP_SERVER_ROOT_URL": "https://plane.invalid"}
    env["HTTPS_PROXY"] = "socks5://me:hunter2@proxy:1080"
    done = oz(*(part.format(config=config) for part in command), env=env, check=False)
    assert done.returncode == 2
    assert "error: HTTPS_PROXY must be the address of an HTTP proxy" in done.stderr
    assert all(word not in done.stderr for word in ("hunter2", "Traceback"))
