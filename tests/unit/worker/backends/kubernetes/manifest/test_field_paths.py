"""From the API server's field paths to the config file's keys."""

from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.manifest.field_paths import (
    config_path,
    field_problems,
    in_config_terms,
)
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_job import build_sample_job
from oz_agent_worker.worker.config.schema import KubernetesConfig

TEMPLATE = {
    "containers": [
        {"name": "helper", "image": "helper:1"},
        {"name": "task", "env": [{"name": "A", "value": "1"}]},
    ],
    "initContainers": [{"name": "clone", "image": "git"}],
    "volumes": [{"name": "cache", "emptyDir": {}}],
}


def sample(**keys: Any) -> tuple[dict[str, Any], KubernetesConfig]:
    config = KubernetesConfig(**keys)
    return build_sample_job(config, worker_id="w", cleanup=True, unique="u"), config


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("spec.template.spec.nodeSelectr", "pod_template.nodeSelectr"),
        ("spec.template.spec.containers[0].imag", "pod_template.containers[helper].imag"),
        ("spec.template.spec.containers[1].resources.limts", "pod_template.containers[task].resources.limts"),
        ("spec.template.spec.initContainers[1].imag", "pod_template.initContainers[clone].imag"),
        ("spec.template.spec.volumes[0].emptyDr", "pod_template.volumes[cache].emptyDr"),
        ("spec.template.spec.volumes[1].emptyDir.sizeLimit", "workspace_size_limit"),
        ("spec.template.spec.tolerations.key", "pod_template.tolerations.key"),
        ("spec.template.spec.containers[2].imag", "pod_template.containers[2].imag"),
        ("spec.template.spec.containers[9].imag", "pod_template.containers[9].imag"),
        ("spec.template.metadata.labels", "extra_labels"),
        ("spec.template.metadata.annotations[a/b]", "extra_annotations[a/b]"),
        ("metadata.labels", "extra_labels"),
        ("spec.activeDeadlineSeconds", "active_deadline_seconds"),
    ],
)
def test_a_path_is_named_as_it_was_written(path: str, key: str) -> None:
    job, config = sample(pod_template=TEMPLATE, workspace_size_limit="1Gi")
    assert config_path(path, job, config) == f"backend.kubernetes.{key}"


@pytest.mark.parametrize("path", ["spec.parallelism", "spec.template.spec", "metadata.name"])
def test_what_no_key_accounts_for_stays_as_it_is(path: str) -> None:
    assert config_path(path, *sample()) == path


@pytest.mark.parametrize(
    ("keys", "path", "key"),
    [
        ({"resources": {"limts": {}}}, "containers[0].resources.limts", "resources.limts"),
        ({"tolerations": ({"efect": "x"},)}, "tolerations[0].efect", "tolerations[0].efect"),
        ({"node_selector": {"a b": "c"}}, "nodeSelector", "node_selector"),
        ({"service_account": "A"}, "serviceAccountName", "service_account"),
        (
            {
                "resources": {"requests": {}},
                "pod_template": {"containers": [{"name": "task", "resources": {"limits": {"x": 1}}}]},
            },
            "containers[0].resources.limits.x",
            "pod_template.containers[task].resources.limits.x",
        ),
        (
            {"node_selector": {"a": "b"}, "pod_template": {"nodeSelector": {"a b": "c"}}},
            "nodeSelector",
            "pod_template.nodeSelector",
        ),
        (
            {"pod_template": {"nodeSelector": {"a b": "c"}}},
            "nodeSelector",
            "pod_template.nodeSelector",
        ),
    ],
)
def test_a_shorthand_is_blamed_for_what_it_filled(keys: dict[str, Any], path: str, key: str) -> None:
    job, config = sample(**keys)
    assert config_path(f"spec.template.spec.{path}", job, config) == f"backend.kubernetes.{key}"


def test_strict_decoding_gives_a_line_a_field() -> None:
    server_message = (
        'Job in version "v1" cannot be handled as a Job: strict decoding error:'
        ' unknown field "spec.template.spec.containers[1].imag",'
        ' unknown field "spec.template.spec.containers[1].env[0].valeu",'
        ' duplicate field "spec.template.spec.nodeSelector", unknown field "spec.template.spec.nodeSelectr"'
    )
    template = "backend.kubernetes.pod_template"
    job, config = sample(pod_template=TEMPLATE)
    # The worker's own variables come before the template's: the first of the rendered Job is one of them.
    first = job["spec"]["template"]["spec"]["containers"][1]["env"][0]["name"]
    assert field_problems(server_message, job, config) == [
        f"{template}.containers[task].imag: unknown field; did you mean `image`?",
        f"{template}.containers[task].env[{first}].valeu: unknown field",
        f"{template}.nodeSelector: duplicate field",
        f"{template}.nodeSelectr: unknown field; did you mean `nodeSelector`?",
    ]


@pytest.mark.parametrize(
    ("go", "wanted"),
    [
        ("map[string]string", "mapping"),
        ("[]v1.Toleration", "list"),
        ("v1.Affinity", "mapping"),
        ("int64", "whole number"),
        ("bool", "boolean (true or false)"),
        ("string", "string"),
    ],
)
def test_a_wrong_type_is_named_in_yaml_terms(go: str, wanted: str) -> None:
    server_message = (
        f"json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.x of type {go}"
    )
    assert field_problems(server_message, *sample()) == [
        f"backend.kubernetes.pod_template.x: read a number, allowed is a {wanted}"
    ]


def test_a_message_about_something_else_has_no_fields() -> None:
    assert field_problems("jobs.batch is forbidden: exceeded quota: none", *sample()) == []


def test_every_path_in_a_message_is_translated() -> None:
    server_message = (
        "[spec.template.spec.containers[0].resources.requests: Invalid value, metadata.labels: Invalid value,"
        " spec.parallelism: Invalid value]"
    )
    assert in_config_terms(server_message, *sample()) == (
        "[backend.kubernetes.pod_template.containers[task].resources.requests: Invalid value,"
        " backend.kubernetes.extra_labels: Invalid value, spec.parallelism: Invalid value]"
    )
