"""The two images, built by a real engine and run hardened: no root, nothing to write to, no network."""

import json
import socket
from collections.abc import Iterator

import pytest

import oz_agent_worker
from tests.cluster.docker.build import AGENT_IMAGE, BASE_IMAGE, SHELL_IMAGE, WORKER_IMAGE
from tests.cluster.docker.engine import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

HARDENED = ("--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def run(engine: DockerEngine, *arguments: str) -> str:
    return engine.run("run", *HARDENED, *arguments)


def test_the_worker_says_its_version(images: DockerEngine) -> None:
    assert oz_agent_worker.__version__ in run(images, WORKER_IMAGE, "--version")


def test_neither_image_runs_as_root(images: DockerEngine) -> None:
    for image in (WORKER_IMAGE, AGENT_IMAGE):
        config = json.loads(images.run("image", "inspect", image))[0]["Config"]
        assert config["User"] == "10001:10001"


def test_the_worker_refuses_a_wrong_configuration_with_exit_code_2(images: DockerEngine) -> None:
    done = images.call("run", *HARDENED, WORKER_IMAGE, "--worker-id", "w", "--backend", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_the_exec_probe_needs_no_shell(images: DockerEngine) -> None:
    assert run(images, "--entrypoint=kill", WORKER_IMAGE, "-0", "1") == ""
    assert images.call("run", *HARDENED, "--entrypoint=kill", WORKER_IMAGE, "-0", "999").returncode == 1


def test_the_control_plane_serves_from_the_same_image(images: DockerEngine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = (
        "control-plane",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--database",
        "sqlite:////data/runs.db",
    )
    options = ("--detach", "--network=host", "--read-only", "--tmpfs=/data:uid=10001")
    container = images.run("run", *options, WORKER_IMAGE, *serve)
    try:
        health = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/healthz').status)"
        retry = (
            f"import time\nfor _ in range(100):\n try:\n  {health}; break\n except OSError: time.sleep(.1)"
        )
        output = images.run("run", "--rm", "--network=host", "--entrypoint=python", WORKER_IMAGE, "-c", retry)
        assert output == "200", images.run("logs", container)
    finally:
        images.run("rm", "--force", container)


def test_the_image_says_what_is_in_it(images: DockerEngine) -> None:
    sbom = json.loads(run(images, "--entrypoint=cat", WORKER_IMAGE, "/opt/oz/share/sbom.cdx.json"))
    assert {"aiohttp", "oz-agent-worker"} <= {component["name"] for component in sbom["components"]}
    labels = json.loads(images.run("image", "inspect", WORKER_IMAGE))[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == oz_agent_worker.__version__
    assert labels["org.opencontainers.image.revision"] == "test"


def test_the_worker_s_image_has_no_compiler_and_no_pip(images: DockerEngine) -> None:
    look = "import shutil; print([p for p in ('cc', 'gcc', 'make', 'pip', 'git') if shutil.which(p)])"
    assert run(images, "--entrypoint=python", WORKER_IMAGE, "-c", look) == "[]"


@pytest.fixture
def agent_mount(images: DockerEngine) -> Iterator[str]:
    """The agent's root file system as a sidecar's volume, mounted as tasks see it."""
    volume = images.run("volume", "create")
    copy = "cp -a /entrypoint.sh /lib /python /target/"
    as_root = ("run", "--rm", "--user=0", f"--volume={volume}:/target", "--entrypoint=/bin/sh")
    images.run(*as_root, AGENT_IMAGE, "-c", copy)
    yield f"--volume={volume}:/agent:ro"
    images.run("volume", "rm", "--force", volume)


@pytest.mark.parametrize("image", [SHELL_IMAGE, BASE_IMAGE])
def test_the_agent_runs_in_any_image(images: DockerEngine, agent_mount: str, image: str) -> None:
    """The task's own Python variables do not disturb it."""
    output = run(images, agent_mount, "--env=PYTHONHOME=/nowhere", image, "/agent/entrypoint.sh", "--help")
    assert "carries out one agent run" in output


def test_the_agent_leaves_no_trace_in_the_environment(images: DockerEngine, agent_mount: str) -> None:
    """What it starts must find the task image's own interpreter and libraries."""
    show = "import os, sys; print([n for n in os.environ if n[:3] in ('PYT', 'LD_')], sys.prefix)"
    entry = run(images, agent_mount, SHELL_IMAGE, "cat", "/agent/entrypoint.sh")
    script = entry.replace("${0%/*}", "/agent").replace('-m oz_agent_worker.agent "$@"', f'-c "{show}"')
    assert run(images, agent_mount, SHELL_IMAGE, "/bin/sh", "-c", script) == "[] /agent/python"


def test_the_agent_asks_for_its_control_plane(images: DockerEngine) -> None:
    done = images.call("run", *HARDENED, AGENT_IMAGE, "agent", "run", "--task-id", "t")
    assert done.returncode != 0
    assert "--server-root-url" in done.stderr
