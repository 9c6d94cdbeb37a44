"""``doctor``, and a worker that cannot start, as a new operator meets them: real processes."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, Script, behaviours
from tests.conftest import KubeletFactory
from tests.integration.programs import BIN, ControlPlane, control_plane, environment, oz, program
from tests.integration.worker.backends.kubernetes.operators import (
    allow,
    enforce_pod_security,
    jobs_in,
    set_quota,
)
from tests.timeouts import HANG_TIMEOUT

cluster = pytest.mark.cluster

Done = subprocess.CompletedProcess[str]
Doctor = Callable[..., Any]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


def socket_url(plane: ControlPlane) -> str:
    return plane.url.replace("http", "ws", 1) + "/api/v1/selfhosted/worker/ws"


def checks_by_name(done: Done) -> dict[str, dict[str, str]]:
    """The checks of a JSON report, by name."""
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.fixture
def configure(tmp_path: Path, api_tier: ApiTier, namespace: str) -> Callable[..., str]:
    """Write a config file for the test's namespace and return its path."""

    def written(user: str = "worker", **keys: Any) -> str:
        kubeconfig = str(api_tier.kubeconfig(user))
        section = {"namespace": namespace, "kubeconfig": kubeconfig, "unschedulable_timeout": "500ms", **keys}
        path = tmp_path / "worker.yaml"
        path.write_text(json.dumps({"worker_id": "w1", "backend": {"kubernetes": section}}))
        return str(path)

    return written


@pytest.fixture
def doctor(plane: ControlPlane) -> Doctor:
    """Run ``doctor`` beside what the test plays."""

    async def run(config: str, *flags: str, key: str | None = None) -> Done:
        env = {**plane.env(), **({"WARP_API_KEY": key} if key is not None else {})}
        arguments = ("doctor", "--config-file", config, "--web-socket-url", socket_url(plane), *flags)
        return await asyncio.to_thread(oz, *arguments, env=env, check=False)

    return run


@pytest.fixture
def node(kubelet: KubeletFactory) -> Callable[..., Kubelet]:
    def create(script: Script | None = None) -> Kubelet:
        tasks = behaviours.always(behaviours.succeed())
        return kubelet(tasks, preflight=behaviours.always(script) if script else tasks)

    return create


@cluster
async def test_all_is_well(
    api_tier: ApiTier, namespace: str, configure: Any, doctor: Doctor, node: Any
) -> None:
    async with node():
        done = await doctor(configure())
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows, _, summary = done.stdout.splitlines()
    assert header.split() == ["CHECK", "VERDICT", "DETAIL"]
    assert summary == "27 checks: 24 ok, 3 skip"
    lines = {row[:21].strip(): row[24:].split(maxsplit=1) for row in rows}
    assert lines["jobs: create"] == ["ok", "to run a task"]
    assert lines["preflight Job"] == ["ok", "it ran to its end"]
    assert lines["API key"] == ["ok", f"accepted by {doctor_root(done)}"]
    assert lines["quotas"][0] == "skip"
    assert "\x1b" not in done.stdout
    assert jobs_in(api_tier, namespace) == []


def doctor_root(done: Done) -> str:
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("API key")]
    return line.rpartition(" ")[2]


@cluster
async def test_a_report_for_programs(configure: Any, doctor: Doctor, node: Any) -> None:
    async with node():
        done = await doctor(configure("admin"), "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "ok"
    found = checks_by_name(done)
    assert found["Pod Security"] == {
        "name": "Pod Security", "verdict": "ok", "detail": "no level is enforced by a label",
        "fix": "", "mend": "",
    }  # fmt: skip
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert "Kubernetes v1." in found["API server"]["detail"]


async def test_warnings_about_the_settings_are_a_warning(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(f"worker_id: my worker\nbackend:\n  direct: {{workspace_root: {tmp_path}/w}}\n---\n")
    done = await doctor(str(path), "--env", "A=1,B=2", "--output", "json")
    found = checks_by_name(done)["configuration"]
    assert found["verdict"] == "warn"
    summary, *warnings = found["detail"].splitlines()
    assert summary == f"{path}: backend direct, worker ID my worker"
    begins = (
        f"{path}:4: a second",
        f"{path}:1: worker ID 'my worker' contains",
        "--env A: a comma is followed",
    )
    assert all(warning.startswith(begin) for warning, begin in zip(warnings, begins, strict=True))
    assert "--strict" in found["fix"]
    strict = await doctor(str(path), "--env", "A=1,B=2", "--strict", "--output", "json")
    (refused,) = checks_by_name(strict).values()
    assert refused["verdict"] == "fail"
    assert refused["detail"].splitlines()[1:] == [f"  {warning}" for warning in warnings]
    assert strict.returncode == 3


def failures(done: Done) -> dict[str, dict[str, str]]:
    assert done.returncode == 3, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "fail"
    failed = {name: check for name, check in checks_by_name(done).items() if check["verdict"] == "fail"}
    assert all(check["fix"] == check["mend"] != "" for check in failed.values())
    return failed


@cluster
async def test_one_verb_is_missing(
    api_tier: ApiTier, namespace: str, configure: Any, doctor: Doctor, node: Any
) -> None:
    await asyncio.to_thread(allow, api_tier, namespace, but=("events", "list"))
    async with node():
        done = await doctor(configure())
        assert done.returncode == 3
        _, _, after = done.stdout.partition("\nevents: list")
        first, fix, rule = after.splitlines()[:3]
        assert first.split()[0] == "fail"
        assert (
            f'User "worker" cannot list resource "events" in API group "" in the namespace "{namespace}"'
            in first
        )
        assert fix.strip() == f"fix: add to the worker's Role in namespace {namespace}:"
        assert rule.strip() == '- {apiGroups: [""], resources: ["events"], verbs: [list]}'
        assert "preflight Job           ok" in done.stdout
        await asyncio.to_thread(allow, api_tier, namespace)
        assert (await doctor(configure())).returncode == 0


@cluster
async def test_pod_security_is_restricted(
    api_tier: ApiTier, namespace: str, configure: Any, doctor: Doctor, node: Any
) -> None:
    await asyncio.to_thread(enforce_pod_security, api_tier, namespace, "restricted")
    async with node():
        done = await doctor(configure(), "-o", "json")
    (failure,) = failures(done).values()
    assert failure["name"] == "admission"
    assert "violates PodSecurity" in failure["detail"]
    assert "use_image_volumes: true" in failure["fix"]
    assert checks_by_name(done)["Pod Security"]["verdict"] == "warn"
    assert checks_by_name(done)["preflight Job"]["detail"] == "not reached"


@cluster
async def test_a_quota_is_full(
    api_tier: ApiTier, namespace: str, configure: Any, doctor: Doctor, node: Any
) -> None:
    await asyncio.to_thread(set_quota, api_tier, namespace, "small", {"pods": "0"})
    async with node():
        of_worker = failures(await doctor(configure(), "-o", "json"))
        of_admin = failures(await doctor(configure("admin"), "-o", "json", "--no-job"))
    assert list(of_worker) == ["admission"]
    assert "exceeded quota: small" in of_worker["admission"]["detail"]
    assert f"kubectl -n {namespace} edit resourcequota small" in of_worker["admission"]["fix"]
    assert list(of_admin) == ["quotas"]
    assert of_admin["quotas"]["detail"] == "`small` is full: 0 of 0 pods"


@cluster
@pytest.mark.parametrize(
    ("script", "check", "fix"),
    [
        (
            behaviours.image_pull_back_off("not found"),
            "image pull",
            "correct backend.kubernetes.preflight_image",
        ),
        (behaviours.unschedulable("0/1 nodes are available"), "scheduling", "nodeSelector"),
        (behaviours.exit_with(1), "preflight Job", "/bin/sh"),
    ],
    ids=["image", "node", "program"],
)
async def test_the_preflight_job_shows_at_which_stage_it_stopped(
    api_tier: ApiTier,
    namespace: str,
    configure: Any,
    doctor: Doctor,
    node: Any,
    script: Script,
    check: str,
    fix: str,
) -> None:
    async with node(script):
        done = await doctor(configure(), "-o", "json")
    ((name, failure),) = failures(done).items()
    assert name == check
    assert fix in failure["fix"]
    assert jobs_in(api_tier, namespace) == []


@cluster
async def test_without_a_job_nothing_is_created(
    api_tier: ApiTier, namespace: str, configure: Any, doctor: Doctor
) -> None:
    done = await doctor(configure(), "--no-job", "-o", "json")
    assert done.returncode == 0, done.stdout
    assert checks_by_name(done)["preflight Job"]["detail"] == "left out by --no-job"
    created = api_tier.audit(user="worker", verb="create", resource="jobs", namespace=namespace)
    assert created
    assert all("dryRun=All" in entry.request_uri for entry in created)


@cluster
async def test_a_misspelt_field(configure: Any, doctor: Doctor) -> None:
    done = await doctor(configure(pod_template={"nodeSelectr": {"a": "b"}}), "-o", "json")
    ((name, failure),) = failures(done).items()
    assert name == "task template"
    assert (
        "backend.kubernetes.pod_template.nodeSelectr: unknown field; did you mean `nodeSelector`?"
        in failure["detail"]
    )
    assert checks_by_name(done)["admission"]["detail"] == "not made: task template failed"


@cluster
async def test_a_key_that_is_refused(configure: Any, doctor: Doctor) -> None:
    done = await doctor(configure(), "--no-job", "-o", "json", key="swordfish")
    ((name, failure),) = failures(done).items()
    assert name == "API key"
    assert "(HTTP 401)" in failure["detail"]
    assert "swordfish" not in done.stdout + done.stderr


@cluster
async def test_no_key_at_all(configure: Any, doctor: Doctor) -> None:
    done = await doctor(configure(), "--no-job", "-o", "json", key="")
    assert failures(done)["API key"]["fix"] == "set WARP_API_KEY"


def unreachable_config(folder: Path) -> str:
    kubeconfig = folder / "kubeconfig"
    cluster_entry = {"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"clusters": [cluster_entry], "contexts": [context], "users": [{"name": "u", "user": {}}]}
    kubeconfig.write_text(json.dumps({**document, "current-context": "x"}))
    config = folder / "worker.yaml"
    config.write_text(json.dumps({"backend": {"kubernetes": {"kubeconfig": str(kubeconfig)}}}))
    return str(config)


async def test_an_api_server_that_cannot_be_reached(tmp_path: Path, doctor: Doctor) -> None:
    done = await doctor(unreachable_config(tmp_path), "-o", "json")
    ((name, failure),) = failures(done).items()
    assert name == "API server"
    assert "https://127.0.0.1:9 cannot be reached" in failure["detail"]
    assert checks_by_name(done)["preflight Job"]["detail"] == "not made: API server failed"
    assert checks_by_name(done)["API key"]["verdict"] == "ok"


def oz_doctor(tmp_path: Path, *flags: str) -> Done:
    return oz("doctor", *flags, env=environment(tmp_path, WARP_API_KEY="k"), check=False)


def test_a_config_file_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text("backend:\n  kubernetes:\n    namespce: x\n")
    done = oz_doctor(tmp_path, "--config-file", str(config))
    assert done.returncode == 3
    assert "did you mean `namespace`?" in done.stdout
    assert done.stdout.splitlines()[-1] == "one check: 1 fail"


def test_the_direct_backend_and_a_control_plane_that_is_not_there(tmp_path: Path) -> None:
    config = tmp_path / "worker.yaml"
    section = {"workspace_root": str(tmp_path / "workspaces"), "oz_path": "/bin/true"}
    config.write_text(json.dumps({"backend": {"direct": section}}))
    url = "ws://127.0.0.1:9/api/v1/selfhosted/worker/ws"
    done = oz_doctor(tmp_path, "--config-file", str(config), "--web-socket-url", url, "-o", "json")
    assert list(failures(done)) == ["control plane"]
    found = checks_by_name(done)
    assert found["agent"]["detail"] == "/bin/true (backend.direct.oz_path)"
    assert found["workspaces"]["verdict"] == "ok"
    assert found["journal"]["detail"].endswith(" can be created")
    assert "free on" in found["free space"]["detail"]


def test_the_direct_backend_without_an_agent(tmp_path: Path) -> None:
    config = tmp_path / "worker.yaml"
    section = {"workspace_root": str(tmp_path), "oz_path": "/not/there"}
    config.write_text(json.dumps({"backend": {"direct": section}}))
    done = oz_doctor(tmp_path, "--config-file", str(config))
    assert done.returncode == 3
    assert "/not/there does not exist or cannot be executed" in done.stdout


def test_a_backend_that_is_not_part_of_this_version(tmp_path: Path) -> None:
    done = oz_doctor(tmp_path, "--backend", "docker", "--web-socket-url", "ws://127.0.0.1:9/")
    assert done.returncode == 3
    assert "the docker backend is not part of this version" in done.stdout


# The worker itself


def worker_command(plane: ControlPlane, config: str) -> Sequence[str]:
    return ["--config-file", config, "--web-socket-url", socket_url(plane), "--server-root-url", plane.url]


@cluster
async def test_a_worker_that_cannot_run_tasks_ends_with_one_diagnosis(
    api_tier: ApiTier, namespace: str, plane: ControlPlane, configure: Any, node: Any
) -> None:
    await asyncio.to_thread(set_quota, api_tier, namespace, "small", {"pods": "0"})
    async with node():
        done = await asyncio.to_thread(oz, *worker_command(plane, configure()), env=plane.env(), check=False)
    assert done.returncode == 3
    *_, what, cluster_line, fix_line = done.stderr.splitlines()
    assert (
        what == f"error: preflight: the ResourceQuota `small` of namespace {namespace} has no room for a task"
    )
    assert cluster_line.startswith("  the cluster says: pods ")
    assert fix_line.startswith("  fix: raise the quota ")
    assert "Traceback" not in done.stderr
    assert "Listening" not in done.stderr
    assert jobs_in(api_tier, namespace) == []


@cluster
async def test_a_worker_that_is_stopped_in_its_preflight_deletes_the_job(
    api_tier: ApiTier, namespace: str, plane: ControlPlane, configure: Any, node: Any
) -> None:
    def leave(worker: subprocess.Popen[str]) -> int:
        worker.send_signal(signal.SIGTERM)
        return worker.wait(HANG_TIMEOUT)

    command = [str(BIN / "oz-agent-worker"), *worker_command(plane, configure())]
    async with node(behaviours.runs_until_cancelled()) as kubelet:
        with program(command, plane.env()) as running:
            await kubelet.until(lambda k: k.count("Running") == 1)
            assert await asyncio.to_thread(leave, running.process) == 0
    assert jobs_in(api_tier, namespace) == []
    assert not any("Listening" in line for line in running.lines)
