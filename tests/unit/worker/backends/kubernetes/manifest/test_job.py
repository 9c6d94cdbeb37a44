"""Whole Jobs, compared with the files in ``golden/``.

``OZ_UPDATE_GOLDEN=1`` writes the files; a change of theirs is then read in the diff.
"""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import REDACTED, Secret
from oz_agent_worker.protocol.assignment import AssignmentError, InstanceShape, Sidecar
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.manifest.job import JobPlan, plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.render import render_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.unit.worker.backends.kubernetes.samples import AGENT, task_spec

GOLDEN = Path(__file__).with_name("golden")

TASK_TEMPLATE = yaml.safe_load("""
securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}
priorityClassName: batch
containers:
- name: task
  image: ignored:1
  command: [ignored]
  imagePullPolicy: Always
  securityContext: {allowPrivilegeEscalation: false}
  resources:
    requests: {cpu: 500m, memory: 1Gi, ephemeral-storage: 2Gi}
    limits: {memory: 2Gi, nvidia.com/gpu: 1}
  envFrom: [{secretRef: {name: team}}]
  env:
  - {name: REGION, value: eu}
  - {name: BUCKET, value: cache-$(REGION)}
  - {name: TASK_ID, value: overridden}
  - name: NPM_TOKEN
    valueFrom: {secretKeyRef: {name: npm, key: token}}
  volumeMounts: [{name: cache, mountPath: /cache}]
volumes:
- {name: cache, persistentVolumeClaim: {claimName: cache}}
""")
WIDE_TEMPLATE = yaml.safe_load("""
hostAliases: [{ip: 10.0.0.1, hostnames: [git.internal]}]
initContainers:
- {name: proxy, image: "proxy:1", restartPolicy: Always}
- {name: warm-up, image: "warm:1"}
containers:
- {name: metrics, image: "metrics:1"}
volumes:
- name: workspace
  ephemeral:
    volumeClaimTemplate:
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 50Gi}}}
""")
SHORTHANDS: dict[str, Any] = {
    "service_account": "runner",
    "image_pull_secrets": ("regcred", "mirror"),
    "node_selector": {"pool": "agents"},
    "tolerations": ({"key": "agents", "operator": "Exists", "effect": "NoSchedule"},),
    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}},
    "termination_grace_period_seconds": 120,
    "environment": (EnvEntry("HTTPS_PROXY", "http://proxy:3128"), EnvEntry("LITERAL", "$(HOME)")),
}
TOOLS = Sidecar("registry.example/tools:2", "/opt/tools")
SCRATCH = Sidecar("registry.example/scratch:3", "/opt/scratch/", read_write=True)
CLI = Sidecar("registry.example/claude:4", "/mnt/claude-cli-sidecar")
SETUP = 'set -eu\ngit clone "$REPO" src\necho "BRANCH=main" >> "$OZ_ENVIRONMENT_FILE"\n'
TEARDOWN = "echo 'cleaning up'; rm -rf /workspace/src"

CASES: dict[str, tuple[TaskSpec, KubernetesConfig, bool]] = {
    "minimal": (task_spec(), KubernetesConfig(), True),
    "sidecars": (task_spec(sidecars=(AGENT, TOOLS)), KubernetesConfig(), True),
    "sidecar-read-write": (task_spec(sidecars=(AGENT, SCRATCH)), KubernetesConfig(), True),
    "image-volumes": (task_spec(sidecars=(AGENT, TOOLS)), KubernetesConfig(use_image_volumes=True), True),
    "coding-cli": (task_spec(sidecars=(AGENT, CLI), harness="claude"), KubernetesConfig(), True),
    "setup": (task_spec(sidecars=(AGENT,)), KubernetesConfig(setup_command=SETUP), True),
    "teardown": (task_spec(), KubernetesConfig(teardown_command=TEARDOWN), True),
    "setup-teardown": (
        task_spec(),
        KubernetesConfig(setup_command="./prepare.sh", teardown_command="./clean.sh"),
        True,
    ),
    "template-task": (
        task_spec(sidecars=(AGENT,)),
        KubernetesConfig(pod_template=TASK_TEMPLATE, setup_command="make deps"),
        True,
    ),
    "template-wide": (
        task_spec(sidecars=(AGENT,)),
        KubernetesConfig(pod_template=WIDE_TEMPLATE, setup_command="make deps"),
        True,
    ),
    "shorthands": (task_spec(), KubernetesConfig(**SHORTHANDS), True),
    "instance-shape": (
        task_spec(shape=InstanceShape(vcpus=4, memory_gb=16), sidecars=(AGENT,)),
        KubernetesConfig(pod_template=TASK_TEMPLATE),
        True,
    ),
    "limits-and-labels": (
        task_spec(key=ExecutionKey("Run/É 1", "Exec/É")),
        KubernetesConfig(
            namespace="agents",
            image_pull_policy="Always",
            extra_labels={"team": "core", "oz-task-id": "never"},
            extra_annotations={"example.com/cost": "42", "oz.warp.dev/task-id": "never"},
            active_deadline_seconds=3600,
            ttl_seconds_after_finished=600,
            workspace_size_limit="10Gi",
        ),
        True,
    ),
    "cleanup-off": (task_spec(), KubernetesConfig(active_deadline_seconds=60), False),
    "disruption": (task_spec(), KubernetesConfig(retry_on_disruption=3), True),
    "env-secret": (
        task_spec(sidecars=(AGENT,)),
        KubernetesConfig(
            task_env_secret=True,
            setup_command="make deps",
            pod_template=TASK_TEMPLATE,
            environment=(EnvEntry("REGION", "eu"), EnvEntry("NPM_CONFIG_REGISTRY", "https://npm.internal")),
        ),
        True,
    ),
    "token": (task_spec(), KubernetesConfig(pod_template={"automountServiceAccountToken": True}), True),
    "shorthands-beside-template": (
        task_spec(),
        KubernetesConfig(**{**SHORTHANDS, "resources": {}}, pod_template=TASK_TEMPLATE),
        True,
    ),
    "shape-alone": (
        task_spec(shape=InstanceShape(vcpus=2), sidecars=(AGENT,)),
        KubernetesConfig(resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}),
        True,
    ),
    "image-volumes-setup": (
        task_spec(sidecars=(AGENT, CLI)),
        KubernetesConfig(
            use_image_volumes=True,
            image_pull_policy="Always",
            setup_command="make deps",
            teardown_command="make clean",
            workspace_size_limit="500M",
        ),
        True,
    ),
    "awkward-values": (
        task_spec(
            arguments=("agent", "run", "--mcp", '{"a":"$(HOME) $$ é"}', "two\nlines", ""),
            environment={"KEY": Secret("-----BEGIN-----\n$(HOME)\n-----END-----\n"), "EMPTY": Secret("")},
        ),
        KubernetesConfig(),
        True,
    ),
}


def planned(name: str) -> JobPlan:
    spec, config, cleanup = CASES[name]
    return plan_job(spec, config, worker_id="my-worker", cleanup=cleanup)


def built(name: str) -> dict[str, Any]:
    return planned(name).job


@pytest.mark.parametrize("name", CASES)
def test_the_whole_job(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = render_job(built(name), "yaml")
    if os.environ.get("OZ_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()
    assert yaml.safe_load(text) == built(name)


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_building_changes_no_input_and_is_the_same_again(name: str) -> None:
    spec, config, _ = CASES[name]
    before = copy.deepcopy(dict(config.pod_template)), repr(spec), repr(config)
    first = built(name)
    assert (dict(config.pod_template), repr(spec), repr(config)) == before
    assert json.dumps(first) == json.dumps(built(name))


@pytest.mark.parametrize("name", CASES)
def test_no_part_of_a_job_is_shared_with_another_part_or_with_the_template(name: str) -> None:
    seen: set[int] = set(_containers_of(CASES[name][1].pod_template))
    for identity in _containers_of(built(name)):
        assert identity not in seen
        seen.add(identity)


def _containers_of(value: Any) -> list[int]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [id(value)] if isinstance(value, dict | list) else []
    return own + [identity for child in children for identity in _containers_of(child)]


@pytest.mark.parametrize("name", CASES)
def test_secrets_are_only_in_the_values_of_variables(name: str) -> None:
    spec = CASES[name][0]
    job = built(name)
    assert REDACTED not in json.dumps(job)
    pod = job["spec"]["template"]["spec"]
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        container.pop("env", None)
    secret = spec.environment.get("GITHUB_TOKEN")
    if secret is not None:
        assert secret.reveal() not in json.dumps(job)


def test_with_an_environment_secret_the_job_has_no_variables_value() -> None:
    text = json.dumps(built("env-secret"))
    assert "ghp_secret" not in text
    assert "npm.internal" not in text


def test_the_name_of_the_secret_follows_from_the_job_and_the_creation_attempt() -> None:
    spec, config, cleanup = CASES["env-secret"]
    job = plan_job(spec, config, worker_id="w", cleanup=cleanup, unique="1a2b").job
    name = job["metadata"]["name"] + "-env-1a2b"
    assert job["metadata"]["annotations"]["oz.warp.dev/environment-secret"] == name
    assert json.dumps(job).count(f'"secretKeyRef": {{"name": "{name}"') == 2 * 4
    assert "environment-secret" not in json.dumps(job["spec"]["template"]["metadata"])


def test_a_job_names_the_process_that_created_it_and_its_pods_do_not() -> None:
    spec, config, cleanup = CASES["limits-and-labels"]
    config = replace(config, extra_annotations={"oz.warp.dev/owner": "an operator"})
    job = plan_job(spec, config, worker_id="w", cleanup=cleanup, owner="pod/agents/worker-0/uid").job
    assert job["metadata"]["annotations"]["oz.warp.dev/owner"] == "pod/agents/worker-0/uid"
    assert "pod/agents/worker-0/uid" not in json.dumps(job["spec"])


IDS = st.text(min_size=1, max_size=80)


@given(IDS, IDS, IDS, st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=20), max_size=4))
def test_any_ids_and_values_make_a_job_that_json_can_carry(
    worker: str, task_id: str, execution_id: str, environment: dict[str, str]
) -> None:
    spec = task_spec(
        key=ExecutionKey(task_id, execution_id),
        environment={name: Secret(value) for name, value in environment.items()},
    )
    job = plan_job(spec, KubernetesConfig(), worker_id=worker, cleanup=True).job
    assert json.loads(json.dumps(job)) == job
    metadata = job["metadata"]
    assert metadata["annotations"]["oz.warp.dev/task-id"] == task_id
    assert metadata["labels"] == job["spec"]["template"]["metadata"]["labels"]
    names = [entry["name"] for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert names == sorted(set(names))


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("sidecars", "config", "message"),
    [
        ((Sidecar("", "/agent"),), {}, "has no image"),
        ((Sidecar("a:1", ""),), {}, "not an absolute path"),
        ((Sidecar("a:1", "relative"),), {}, "not an absolute path"),
        ((Sidecar("a:1", "/workspace"),), {}, "/workspace"),
        ((Sidecar("a:1", "/workspace/."),), {}, "/workspace"),
        ((Sidecar("a:1", "/a"), Sidecar("b:1", "/a/")), {}, "two sidecars"),
        ((Sidecar("a:1", "/a/b"), Sidecar("b:1", "/a//b")), {}, "two sidecars"),
        ((Sidecar("a:1", "/a", read_write=True),), {"use_image_volumes": True}, "read_write"),
        (
            (Sidecar("a:1", "/cache/"),),
            {"pod_template": TASK_TEMPLATE},
            "pod_template mounts a volume at /cache",
        ),
        ((), {"pod_template": {"containers": "x"}}, r"pod_template\.containers"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    sidecars: tuple[Sidecar, ...], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(AssignmentError, match=message):
        plan_job(task_spec(sidecars=sidecars), KubernetesConfig(**config), worker_id="w", cleanup=True)
