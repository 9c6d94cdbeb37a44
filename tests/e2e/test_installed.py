"""The installed product: images built here, both charts, real Helm, one real node; then what happens to it.

One installation serves all tests, in their order; the last ones take it away.
"""

import re
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.errors import ApiError
from tests.cluster.rest import wait_for

from .installed import PLANE_RELEASE, WORKER_RELEASE, Installation

pytestmark = [pytest.mark.node, pytest.mark.docker, pytest.mark.timeout(1800)]

METRICS_PORT = 9464
HEALTH_PORT = 8081


def test_the_level_restricted_is_enforced_where_both_run(installation: Installation) -> None:
    container = {"name": "c", "image": "oz.test/busybox:1"}
    pod = {"metadata": {"name": "root"}, "spec": {"containers": [container]}}
    with pytest.raises(ApiError, match="violates PodSecurity") as refusal:
        installation.client.create(f"/api/v1/namespaces/{installation.system}/pods?dryRun=All", pod)
    assert refusal.value.status == 403
    for release in (PLANE_RELEASE, WORKER_RELEASE):
        assert installation.pod(release)["status"]["phase"] == "Running"


def test_a_prompt_becomes_output_and_a_result(installation: Installation) -> None:
    prompt = 'echo "hello from $OZ_WORKER_BACKEND in $PWD"; ls /agent; which python3'
    with installation.plane() as plane:
        done = plane.oz("run", prompt, "--harness", "shell", "--follow", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *output, last = done.stdout.splitlines()
    assert re.fullmatch(r"run \S+ SUCCEEDED", last)
    assert "hello from kubernetes in /workspace" in output
    assert "entrypoint.sh" in output
    assert "/usr/bin/python3" in output, "the task's own Python is not the agent's"
    wait_for("the Job's deletion", lambda: installation.jobs() == [])


def test_the_exec_probe_passes(installation: Installation) -> None:
    pod = installation.pod(WORKER_RELEASE)
    before = installation.probes(pod, "Liveness")
    wait_for("probes", lambda: installation.probes(pod, "Liveness") >= before + 2)
    (status,) = installation.pod(WORKER_RELEASE)["status"]["containerStatuses"]
    assert (status["restartCount"], status["ready"]) == (0, True)


def test_the_node_can_scrape_the_worker(installation: Installation) -> None:
    printed = installation.fetch(WORKER_RELEASE, METRICS_PORT, "/metrics")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(printed)
        for sample in family.samples
        if not sample.labels
    }
    assert samples["oz_worker_connected"] == 1
    assert samples["oz_worker_tasks_claimed_total"] >= 1


@pytest.mark.parametrize("release", [PLANE_RELEASE, WORKER_RELEASE])
def test_helm_test_passes(installation: Installation, release: str) -> None:
    printed = installation.run_helm("test", release, "--logs", "--timeout=180s")
    assert re.search(r"Phase:\s+Succeeded", printed)
    assert "POD LOGS" in printed


def test_a_task_outlives_its_worker(installation: Installation) -> None:
    with installation.waiting_run() as run:
        job = run.job["metadata"]
        owner = job["annotations"]["oz.warp.dev/owner"]
        assert owner.endswith(installation.pod(WORKER_RELEASE)["metadata"]["uid"])
        installation.replace_pod(WORKER_RELEASE)
        installation.wait_until_listening()
        assert run.job["metadata"]["uid"] == job["uid"]
        run.succeeds_after_one_start()
    log = installation.kubectl("logs", f"deployment/{WORKER_RELEASE}").splitlines()
    assert any(run.run_id in line and "adopted" in line for line in log)


def test_a_task_outlives_the_control_planes_pod(installation: Installation) -> None:
    with installation.waiting_run() as run:
        installation.replace_pod(PLANE_RELEASE)
        run.succeeds_after_one_start()


def test_an_upgrade_in_mid_task_keeps_the_task(installation: Installation) -> None:
    """From here on, health has its port."""
    before = installation.pod(WORKER_RELEASE)["metadata"]["uid"]
    with installation.waiting_run() as run:
        often = "--set=worker.health.readinessProbe.periodSeconds=1"
        installation.upgrade_worker("--set=worker.health.enabled=true", often)
        assert installation.pod(WORKER_RELEASE)["metadata"]["uid"] != before
        run.succeeds_after_one_start()


def test_health_is_what_the_probes_ask_for(installation: Installation) -> None:
    pod = installation.pod(WORKER_RELEASE)
    (container,) = pod["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"
    for kind in ("Liveness", "Readiness"):
        wait_for(f"a {kind} probe", partial(installation.has_passed, pod, kind))


def test_without_a_control_plane_the_worker_is_alive_and_not_ready(installation: Installation) -> None:
    pod = installation.pod(WORKER_RELEASE)["metadata"]["uid"]
    installation.kubectl("scale", f"deployment/{PLANE_RELEASE}", "--replicas=0")
    worker = ("wait", f"deployment/{WORKER_RELEASE}", "--timeout=120s")
    installation.kubectl(*worker, "--for=condition=Available=false")
    assert installation.fetch(WORKER_RELEASE, HEALTH_PORT, "/healthz")
    installation.kubectl("scale", f"deployment/{PLANE_RELEASE}", "--replicas=1")
    installation.kubectl(*worker, "--for=condition=Available")
    after = installation.pod(WORKER_RELEASE)
    assert after["metadata"]["uid"] == pod
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_task_outlives_the_workers_release(installation: Installation) -> None:
    notes = installation.run_helm("get", "notes", PLANE_RELEASE)
    with installation.waiting_run() as run:
        job = run.job["metadata"]
        installation.run_helm("uninstall", WORKER_RELEASE, "--wait")
        left = installation.objects(installation.tasks)
        assert {name for kind, name in left if kind == "Job"} == {job["name"]}
        assert {kind for kind, _ in left} == {"Job", "Pod"}
        installation.install_worker(notes)
        assert run.job["metadata"]["uid"] == job["uid"]
        run.succeeds_after_one_start()


def test_uninstalling_leaves_the_claim_alone(installation: Installation) -> None:
    """And the Pods of ``helm test``, which Helm counts as no part of a release."""
    for release in (WORKER_RELEASE, PLANE_RELEASE):
        installation.run_helm("uninstall", release, "--wait")
        installation.remove_tests(release)
    expected = {("PersistentVolumeClaim", f"{PLANE_RELEASE}-data")}
    wait_for("the end of the releases", lambda: installation.objects(installation.system) == expected)
    wait_for("the end of the permissions", lambda: installation.objects(installation.tasks) == set())
