"""The whole product in a cluster, installed by the two commands of the documentation."""

import json
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm
from tests.chart.provisioned import provisioned_programs
from tests.cluster.docker.build import AGENT_IMAGE, BASE_IMAGE, WORKER_IMAGE
from tests.cluster.docker.engine import DockerEngine
from tests.cluster.node.images import BUSYBOX_IMAGE
from tests.cluster.node_tier import NodeTier
from tests.cluster.processes import free_ports
from tests.cluster.rest import RestClient, wait_for
from tests.integration.programs import ControlPlane, environment, program

__all__ = ["PLANE_RELEASE", "WORKER_RELEASE", "Installation", "WaitingRun", "import_images", "install"]

PLANE_RELEASE: Final = "oz-control-plane"
WORKER_RELEASE: Final = "oz-agent-worker"
"""The releases' names, and so those of their Deployments."""

#: Seconds, on a busy machine: until a release is ready; until a run has come to a state.
READY: Final = 180.0
RUN: Final = 120.0

#: What the cluster puts into every namespace.
ALWAYS_THERE: Final = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})

RESTRICTED: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def import_images(engine: DockerEngine, tier: NodeTier) -> None:
    """Carry the images that the engine has built, and their base, to the node."""
    archive = engine.folder / "images.tar"
    engine.run("save", "--output", archive, WORKER_IMAGE, AGENT_IMAGE, BASE_IMAGE)
    try:
        tier.load_archive(archive)
    finally:
        archive.unlink()


@dataclass(frozen=True)
class Installation:
    """Both releases in the namespace ``system``, tasks in ``tasks``.

    Tasks see the node's folder ``proof`` as /proof. ``key`` is the API key that the
    control plane's chart made a Secret of.
    """

    tier: NodeTier
    helm: Helm
    kubectl_program: Path
    system: str
    tasks: str
    proof: Path
    key: str
    home: Path

    @property
    def client(self) -> RestClient:
        """A client with all rights."""
        return self.tier.api.client()

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace of the releases; return what it printed."""
        return self._call("--namespace", self.system, *arguments)

    def _call(self, *arguments: str) -> str:
        command = [str(self.kubectl_program), f"--kubeconfig={self.helm.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY)
        assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout

    def run_helm(self, *arguments: str | Path) -> str:
        """Run Helm in the namespace of the releases; return what it printed."""
        return self.helm.run(*arguments, "--namespace", self.system)

    def install_plane(self) -> str:
        """The first command; return the notes."""
        repository, _, tag = WORKER_IMAGE.rpartition(":")
        values: dict[str, Any] = {
            "image": {"repository": repository, "tag": tag},
            "apiKeySecret": {"create": True, "value": self.key},
            "controlPlane": {"agentImage": AGENT_IMAGE},
            "persistence": {"size": "1Gi"},
        }
        return self._install(PLANE_RELEASE, CONTROL_PLANE, values)

    def install_worker(self, notes: str) -> str:
        """The second command, with the values that the ``notes`` of the first one give."""
        command = notes[notes.index("helm install") :].partition("\n\n")[0].replace("\\\n", " ").split()
        given = [f"--set={word}" for word in command if "=" in word]
        return self._install(WORKER_RELEASE, WORKER, self._worker_values(), *given)

    def _worker_values(self) -> dict[str, Any]:
        proof = {"name": "proof", "hostPath": {"path": str(self.proof), "type": "Directory"}}
        mount = {"name": "proof", "mountPath": "/proof"}
        template = {"volumes": [proof], "containers": [{"name": "task", "volumeMounts": [mount]}]}
        return {
            "image": {"repository": WORKER_IMAGE.rpartition(":")[0]},
            "worker": {
                # The default command, more often.
                "livenessProbe": {"initialDelaySeconds": 1, "periodSeconds": 1},
                "securityContext": {"readOnlyRootFilesystem": True},
            },
            "metrics": {"enabled": True},
            "kubernetesBackend": {
                "namespace": self.tasks,
                "defaultImage": BASE_IMAGE,
                "preflightImage": BUSYBOX_IMAGE,
                "podTemplate": template,
            },
        }

    def _install(self, release: str, chart: Path, values: Mapping[str, Any], *options: str) -> str:
        file = self.home / f"{release}.json"
        file.write_text(json.dumps(values))
        waiting = ("--wait", f"--timeout={READY:.0f}s")
        return self.run_helm("install", release, chart, f"--values={file}", *waiting, *options)

    def upgrade_worker(self, *options: str) -> None:
        """Upgrade the worker's release with other values, and wait until it is ready."""
        waiting = ("--wait", f"--timeout={READY:.0f}s", "--reset-then-reuse-values")
        self.run_helm("upgrade", WORKER_RELEASE, WORKER, *waiting, *options)

    def remove_tests(self, release: str) -> None:
        """Remove the Pods of ``helm test``, as docs/chart.md says."""
        selector = f"app.kubernetes.io/instance={release},app.kubernetes.io/managed-by=Helm"
        self.kubectl("delete", "pods", f"--selector={selector}")

    def wait_until_ready(self, release: str) -> None:
        """Wait until the Deployment of a release has the Pod that it wants."""
        self.kubectl("rollout", "status", f"deployment/{release}", f"--timeout={READY:.0f}s")

    def pod(self, release: str) -> Any:
        """The one Pod of a release that is not being deleted."""
        selector = f"app.kubernetes.io%2Finstance%3D{release},app.kubernetes.io%2Fname%3D{release}"
        listed = self.client.get(f"/api/v1/namespaces/{self.system}/pods?labelSelector={selector}")
        (found,) = (pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"])
        return found

    def replace_pod(self, release: str) -> None:
        """Delete the Pod of a release, and wait until another is ready."""
        before = self.pod(release)["metadata"]
        self.kubectl("delete", "pod", before["name"], f"--timeout={READY:.0f}s")
        self.wait_until_ready(release)
        assert self.pod(release)["metadata"]["uid"] != before["uid"]

    def wait_until_listening(self) -> None:
        """Wait until the worker takes tasks."""
        log = ("logs", f"deployment/{WORKER_RELEASE}")
        wait_for("a worker that listens", lambda: "Listening for tasks" in self.kubectl(*log), timeout=READY)

    def fetch(self, release: str, port: int, path: str) -> str:
        """Ask a Pod itself over HTTP, from the node."""
        url = f"http://{self.pod(release)['status']['podIP']}:{port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: bytes = answer.read()
        return text.decode()

    def probes(self, pod: Any, kind: str) -> float:
        """How many probes of a kind, such as ``Readiness``, of a Pod have succeeded, by its kubelet."""
        printed = self.client.exchange("GET", f"/api/v1/nodes/{self.tier.node}/proxy/metrics/probes")
        wanted = (f'probe_type="{kind}"', f'pod_uid="{pod["metadata"]["uid"]}"', 'result="successful"')
        lines = [line for line in printed.splitlines() if line.startswith("prober_probe_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))

    def has_passed(self, pod: Any, kind: str) -> bool:
        """Whether a Pod's probe of a kind has succeeded at least once."""
        return self.probes(pod, kind) > 0

    def jobs(self) -> list[Any]:
        """The Jobs of tasks."""
        listed = self.client.get(f"/apis/batch/v1/namespaces/{self.tasks}/jobs")["items"]
        return [job for job in listed if "deletionTimestamp" not in job["metadata"]]

    def objects(self, namespace: str) -> set[tuple[str, str]]:
        """All objects of a namespace, as resource and name, but for what is always there and for events."""
        listed = self.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        kinds = ",".join(kind for kind in listed if not kind.startswith("events"))
        columns = "--output=go-template={{range .items}}{{.kind}} {{.metadata.name}}\n{{end}}"
        printed = self._call("--namespace", namespace, "get", kinds, columns)
        found = {(kind, name) for kind, name in (line.split() for line in printed.splitlines() if line)}
        return found - ALWAYS_THERE

    @contextmanager
    def plane(self) -> Iterator[ControlPlane]:
        """Reach the control plane as its notes say."""
        (port,) = free_ports(1)
        command = [str(self.kubectl_program), f"--kubeconfig={self.helm.kubeconfig}"]
        command += [f"--namespace={self.system}", "port-forward", f"service/{PLANE_RELEASE}", f"{port}:8080"]
        with program(command, environment(self.home)) as forwarding:
            forwarding.wait_for("Forwarding from 127.0.0.1")
            yield ControlPlane(forwarding, f"http://127.0.0.1:{port}", self.key, self.home)

    @contextmanager
    def waiting_run(self) -> Iterator["WaitingRun"]:
        """Submit a run and wait until it is in the middle of its command, where it waits for a file."""
        mark = secrets.token_hex(4)
        prompt = (
            f"echo began-{mark}; echo once >> /proof/{mark}; "
            f"until test -e /proof/{mark}.go; do sleep 0.2; done; echo ended-{mark}"
        )
        with self.plane() as plane:
            submitted = plane.oz("run", prompt, "--title", "waits", "--harness", "shell", "-o", "json")
        run = WaitingRun(self, json.loads(submitted.stdout)["run_id"], mark)
        try:
            wait_for("the run's command", (self.proof / mark).exists, timeout=RUN)
            yield run
        finally:
            run.go_on()


@dataclass(frozen=True)
class WaitingRun:
    """A run that is in the middle of its command."""

    installation: Installation
    run_id: str
    mark: str

    @property
    def job(self) -> Any:
        """Its Job."""
        (found,) = (job for job in self.installation.jobs() if self.run_id in json.dumps(job["metadata"]))
        return found

    def go_on(self) -> None:
        """Let it end."""
        (self.installation.proof / f"{self.mark}.go").touch()

    def succeeds_after_one_start(self) -> None:
        """Let it end, and assert that it ends well, was started once, and has all its output."""
        self.go_on()
        with self.installation.plane() as plane:
            assert self._final_state(plane) == "SUCCEEDED"
            output = plane.oz("logs", self.run_id).stdout.splitlines()
        expected = [f"began-{self.mark}", f"ended-{self.mark}"]
        assert [line for line in output if self.mark in line] == expected, output
        assert (self.installation.proof / self.mark).read_text() == "once\n"
        wait_for("the Job's deletion", lambda: self.installation.jobs() == [])

    def _final_state(self, plane: ControlPlane) -> str:
        deadline = time.monotonic() + RUN
        while True:
            run = json.loads(plane.oz("runs", self.run_id, "-o", "json").stdout)
            if run["state"] in {"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"}:
                return str(run["state"])
            assert time.monotonic() < deadline, run
            time.sleep(0.2)


def install(tier: NodeTier, home: Path) -> Installation:
    """Install both charts where the Pod Security level ``restricted`` is enforced; their tasks run elsewhere.

    Sidecars are copied by containers that run as root, unless there are image volumes,
    for which this node's container runtime is too old.
    """
    admin = tier.api.client()
    system, tasks = _make_namespace(admin, "oz-system", RESTRICTED), _make_namespace(admin, "oz-tasks", {})
    proof = tier.layout.root / "proof"
    proof.mkdir()
    _make_volume(tier, system)
    programs = provisioned_programs()
    helm = Helm(programs.helm, home / "helm", tier.api.kubeconfig("admin", system))
    key = secrets.token_hex(32)
    installation = Installation(tier, helm, programs.kubectl, system, tasks, proof, key, home)
    installation.install_worker(installation.install_plane())
    installation.wait_until_listening()
    return installation


def _make_namespace(admin: RestClient, prefix: str, labels: Mapping[str, str]) -> str:
    """Make a namespace with nothing in it, and return its name."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    return name


def _make_volume(tier: NodeTier, namespace: str) -> None:
    """Make the volume for the control plane's claim: there is no provisioner.

    A ``local`` one, because unlike a hostPath it gets the group that the Pod asks for (fsGroup).
    """
    folder = tier.layout.root / "volume"
    folder.mkdir()
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [tier.node]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
        "claimRef": {"namespace": namespace, "name": f"{PLANE_RELEASE}-data"},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": spec}
    tier.api.client().create("/api/v1/persistentvolumes", volume)
