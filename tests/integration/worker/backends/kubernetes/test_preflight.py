"""The start-up preflight as operators meet it: a real API server, its admission and RBAC; a played node."""

import asyncio
import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from oz_agent_worker.errors import ExitCode, PreflightError
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import PreflightSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeRunSettings
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, Script, behaviours
from tests.conftest import KubeletFactory
from tests.integration.worker.backends.harness import leave_alone

from .operators import allow, enforce_pod_security, jobs_in, limit, set_quota
from .worker import PATIENT_PREFLIGHT, QUICK

pytestmark = pytest.mark.cluster

SETTINGS = dataclasses.replace(QUICK, preflight=PATIENT_PREFLIGHT)

Start = Callable[..., Any]


@pytest.fixture
def start(api_tier: ApiTier, namespace: str) -> Start:
    """Start a backend with a preflight, as the user ``worker``, and close it again."""

    async def started(*, user: str = "worker", probe: ProbeRunSettings | None = None, **keys: Any) -> None:
        keys = {"namespace": namespace, "unschedulable_timeout": 1.0, "pull_grace": 1.0, **keys}
        config = KubernetesConfig(kubeconfig=str(api_tier.kubeconfig(user)), **keys)
        settings = SETTINGS
        if probe is not None:
            settings = dataclasses.replace(settings, preflight=PreflightSettings(probe=probe))
        backend = KubernetesBackend(config, worker_id="w", cleanup=True, environ={}, settings=settings)
        try:
            await backend.start(leave_alone)
        finally:
            await backend.close()

    return started


async def diagnosis(start: Start, **keys: Any) -> str:
    """What a start that must fail says."""
    with pytest.raises(PreflightError) as caught:
        await start(**keys)
    assert caught.value.exit_code is ExitCode.PREFLIGHT
    return str(caught.value)


@pytest.fixture
def node(kubelet: KubeletFactory) -> Callable[..., Kubelet]:
    """A node whose preflight Pods follow a script; by default they succeed."""

    def create(script: Script | None = None) -> Kubelet:
        tasks = behaviours.always(behaviours.succeed())
        return kubelet(tasks, preflight=behaviours.always(script) if script else tasks)

    return create


async def test_a_job_of_the_tasks_shape_runs_and_is_deleted(
    api_tier: ApiTier, namespace: str, start: Start, node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with node() as kubelet:
        await start(
            pod_template={"securityContext": {"fsGroup": 7}},
            image_pull_secrets=("registry",),
            node_selector={"a": "b"},
        )
        (pod,) = kubelet.preflights
    spec, labels = pod["spec"], pod["metadata"]["labels"]
    assert [c["name"] for c in spec["initContainers"]] == ["copy-sidecar-0"]
    assert spec["initContainers"][0]["securityContext"]["runAsUser"] == 0
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"a": "b"}
    assert spec["securityContext"] == {"fsGroup": 7}
    assert "oz-worker-hash" not in labels
    assert jobs_in(api_tier, namespace) == []
    assert any("Preflight passed in" in line for line in caplog.messages)


# Permissions


@pytest.mark.parametrize(
    ("resource", "verb", "rule"),
    [
        ("events", "list", '- {apiGroups: [""], resources: ["events"], verbs: [list]}'),
        ("pods/log", "get", '- {apiGroups: [""], resources: ["pods/log"], verbs: [get]}'),
        ("jobs", "delete", '- {apiGroups: ["batch"], resources: ["jobs"], verbs: [delete]}'),
        ("pods", "watch", '- {apiGroups: [""], resources: ["pods"], verbs: [watch]}'),
    ],
)
async def test_a_missing_permission_is_named_with_the_rule_that_gives_it(
    api_tier: ApiTier, namespace: str, start: Start, node: Any, resource: str, verb: str, rule: str
) -> None:
    await asyncio.to_thread(allow, api_tier, namespace, but=(resource, verb))
    problem = await diagnosis(start)
    assert f"the worker lacks permissions in namespace '{namespace}': {resource}: {verb} (" in problem
    assert f'User "worker" cannot {verb} resource "{resource}"' in problem
    assert rule in problem
    assert jobs_in(api_tier, namespace) == []


async def test_a_secret_for_the_variables_needs_one_permission_more(start: Start) -> None:
    problem = await diagnosis(start, task_env_secret=True)
    assert "secrets: create" in problem
    assert '- {apiGroups: [""], resources: ["secrets"], verbs: [create]}' in problem


async def test_a_worker_without_any_permission_is_shown_the_whole_role(start: Start) -> None:
    problem = await diagnosis(start, user="nobody")
    assert (
        "jobs: create, get, list, watch, delete; pods: get, list, watch; pods/log: get; events: list"
        in problem
    )
    assert "verbs: [create, get, list, watch, delete]}" in problem


async def test_a_namespace_that_does_not_exist(start: Start) -> None:
    problem = await diagnosis(start, user="admin", namespace="not-there")
    assert "the namespace not-there does not exist" in problem
    assert "kubectl create namespace not-there" in problem


# The template


async def test_a_misspelt_field_is_named_as_the_operator_wrote_it(start: Start) -> None:
    problem = await diagnosis(
        start,
        pod_template={"nodeSelectr": {"a": "b"}, "containers": [{"name": "task", "imag": "x"}]},
        resources={"limts": {"cpu": "1"}},
    )
    assert (
        "backend.kubernetes.pod_template.nodeSelectr: unknown field; did you mean `nodeSelector`?" in problem
    )
    assert (
        "backend.kubernetes.pod_template.containers[task].imag: unknown field; did you mean `image`?"
        in problem
    )
    assert "backend.kubernetes.resources.limts: unknown field; did you mean `limits`?" in problem
    assert 'unknown field "spec.template.spec.nodeSelectr"' in problem
    assert "ozField" not in problem


async def test_k13_a_ttl_of_0_is_taken_with_a_warning(
    start: Start, node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with node():
        await start(ttl_seconds_after_finished=0)
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "ttl_seconds_after_finished: 0" in warning
    assert "output which was not read by then is lost" in warning


@pytest.mark.parametrize(
    ("keys", "cluster_message"),
    [
        (
            {"pod_template": {"nodeSelector": "gpu"}},
            "backend.kubernetes.pod_template.nodeSelector: read a string, allowed is a mapping",
        ),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            "backend.kubernetes.resources.requests: Invalid value",
        ),
        (
            {"pod_template": {"volumes": [{"name": "data", "secret": {}}]}},
            "backend.kubernetes.pod_template.volumes[data].secret.secretName: Required value",
        ),
    ],
    ids=["type", "value", "missing"],
)
async def test_what_is_no_pod_spec_is_named_by_its_key(start: Start, keys: Any, cluster_message: str) -> None:
    assert cluster_message in await diagnosis(start, **keys)


# Admission


async def test_a_restricted_namespace_and_the_suggested_fix(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    await asyncio.to_thread(enforce_pod_security, api_tier, namespace, "restricted")
    async with node():
        problem = await diagnosis(start)
        assert f"the Pod Security level `restricted` of namespace {namespace} does not admit" in problem
        assert "runAsNonRoot != true" in problem
        assert jobs_in(api_tier, namespace) == []
        section = problem.partition("under backend.kubernetes:\n")[2].partition("or lower the level")[0]
        await start(**yaml.safe_load(textwrap.dedent(section)))


async def test_a_full_quota_and_the_way_out(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    await asyncio.to_thread(set_quota, api_tier, namespace, "small", {"pods": "0"})
    async with node():
        problem = await diagnosis(start)
        assert f"the ResourceQuota `small` of namespace {namespace} has no room" in problem
        assert "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0" in problem
        assert f"kubectl -n {namespace} edit resourcequota small" in problem
        await asyncio.to_thread(set_quota, api_tier, namespace, "small", {"pods": "1"})
        await start()


async def test_a_quota_on_jobs_is_found_before_there_is_one(
    api_tier: ApiTier, namespace: str, start: Start
) -> None:
    await asyncio.to_thread(set_quota, api_tier, namespace, "none", {"count/jobs.batch": "0"})
    assert "exceeded quota: none" in await diagnosis(start)


async def test_a_quota_that_requires_explicit_resources(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    await asyncio.to_thread(set_quota, api_tier, namespace, "cpu", {"limits.cpu": "1"})
    async with node():
        problem = await diagnosis(start, preflight_resources={"requests": {"cpu": "1m"}})
        assert "must specify limits.cpu for: copy-sidecar-0,task" in problem
        assert "backend.kubernetes.preflight_resources" in problem
        await start(preflight_resources={"limits": {"cpu": "10m"}})


async def test_a_limit_range(api_tier: ApiTier, namespace: str, start: Start) -> None:
    await asyncio.to_thread(limit, api_tier, namespace, "small", {"cpu": "50m"})
    problem = await diagnosis(start)
    assert "maximum cpu usage per Container is 50m, but limit is 100m" in problem
    assert "keep backend.kubernetes.preflight_resources" in problem


async def test_a_service_account_that_does_not_exist(namespace: str, start: Start) -> None:
    problem = await diagnosis(start, service_account="agents")
    assert f"kubectl -n {namespace} create serviceaccount agents" in problem


# What happens to the Pod


async def test_an_image_that_does_not_exist(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    async with node(behaviours.image_pull_back_off("not found")):
        problem = await diagnosis(start, preflight_image="registry.example/busybox:nope")
    assert "the image registry.example/busybox:nope of container `task` cannot be pulled" in problem
    assert 'failed to resolve reference "registry.example/busybox:nope": not found' in problem
    assert "correct backend.kubernetes.preflight_image" in problem
    assert jobs_in(api_tier, namespace) == []


async def test_a_pod_that_no_node_takes(start: Start, node: Any) -> None:
    async with node(behaviours.unschedulable("0/3 nodes are available: 3 Insufficient cpu.")):
        problem = await diagnosis(start)
    assert "no node takes a task's Pod within 1 s" in problem
    assert "0/3 nodes are available: 3 Insufficient cpu." in problem
    assert "backend.kubernetes.preflight_unschedulable to warn" in problem


async def test_a_pod_that_waits_for_an_autoscaler_is_a_warning_where_that_is_meant(
    api_tier: ApiTier, namespace: str, start: Start, node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(behaviours.unschedulable("0/3 nodes are available: 3 Insufficient cpu.")):
        await start(preflight_unschedulable="warn")
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "no node takes a task's Pod yet" in warning
    assert "3 Insufficient cpu" in warning
    assert jobs_in(api_tier, namespace) == []


async def test_a_secret_that_is_missing(namespace: str, start: Start, node: Any) -> None:
    async with node(behaviours.create_container_config_error('secret "missing" not found')):
        problem = await diagnosis(start)
    assert 'CreateContainerConfigError: secret "missing" not found' in problem
    assert f"create in namespace {namespace} the Secret or ConfigMap" in problem


async def test_a_failed_container_is_reported_with_its_log(start: Start, node: Any) -> None:
    async with node(behaviours.init_fails(126, output="exec format error\n")):
        problem = await diagnosis(start)
    assert "container `copy-sidecar-0` of the preflight Pod ended with exit code 126" in problem
    assert "the cluster says: exec format error" in problem


async def test_a_container_that_never_ends(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    async with node(behaviours.runs_until_cancelled()):
        problem = await diagnosis(start, probe=ProbeRunSettings(whole=0.5))
    assert "did not end within 0.5 s: container `task` still runs" in problem
    assert "native sidecar" in problem
    assert jobs_in(api_tier, namespace) == []


async def test_a_cluster_without_a_scheduler(start: Start) -> None:
    problem = await diagnosis(start, probe=ProbeRunSettings(whole=0.5))
    assert "no scheduler has looked at the preflight Pod within 0.5 s" in problem


async def test_a_volume_that_cannot_be_mounted(start: Start, node: Any) -> None:
    cluster_message = 'MountVolume.SetUp failed for volume "x" : secret "missing" not found'
    async with node(behaviours.failed_mount(cluster_message)):
        problem = await diagnosis(start, probe=ProbeRunSettings(whole=1.0))
    assert f"the cluster says: FailedMount: {cluster_message}" in problem
    assert "create what the volumes in backend.kubernetes.pod_template name" in problem


async def test_a_start_that_is_interrupted_deletes_the_job(
    api_tier: ApiTier, namespace: str, start: Start, node: Any
) -> None:
    async with node(behaviours.runs_until_cancelled()) as kubelet:
        starting = asyncio.create_task(start())
        await kubelet.until(lambda k: k.count("Running") == 1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert jobs_in(api_tier, namespace) == []
