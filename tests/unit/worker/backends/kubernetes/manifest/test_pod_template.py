"""The template merge: what stays, what is filled, what is refused."""

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import InstanceShape
from oz_agent_worker.worker.backends.kubernetes.manifest import pod_template
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry


def expand(text: str, variables: dict[str, str]) -> str:
    """The kubelet's expansion (k8s.io/kubernetes, third_party/forked/golang/expansion)."""
    out, i = "", 0
    while i < len(text):
        if text[i] != "$" or i + 1 == len(text):
            out += text[i]
            i += 1
        elif text[i + 1] == "$":
            out += "$"
            i += 2
        elif text[i + 1] == "(" and ")" in text[i:]:
            name = text[i + 2 : text.index(")", i)]
            out += variables.get(name, f"$({name})")
            i = text.index(")", i) + 1
        else:
            out += text[i : i + 2]
            i += 2
    return out


@given(st.one_of(st.text(), st.text(alphabet="$()aH")))
def test_escaped_text_arrives_as_it_was(text: str) -> None:
    assert expand(pod_template.escape_expansion(text), {"H": "x", "a": "y", "": "z"}) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("$(HOME)", "$$(HOME)"), ("$HOME", "$HOME"), ("$$", "$$$"), ("100$", "100$"), ("a", "a")],
)
def test_only_what_the_kubelet_would_touch_is_escaped(text: str, escaped: str) -> None:
    assert pod_template.escape_expansion(text) == escaped


# --------------------------------------------------------------------------- environment


def test_ours_come_first_sorted_and_the_templates_keep_their_order() -> None:
    own = {"B": Secret("b"), "A": Secret("$(B)")}
    entries: list[dict[str, Any]] = [
        {"name": "Z", "value": "z"},
        {"name": "B", "value": "theirs"},
        {"name": "Y", "value": "$(Z)-$(A)"},
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    assert pod_template.merge_environment(own, entries) == [
        {"name": "A", "value": "$$(B)"},
        {"name": "B", "value": "b"},
        {"name": "Z", "value": "z"},
        {"name": "Y", "value": "$(Z)-$(A)"},
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]


# ----------------------------------------------------------------------------- resources


@pytest.mark.parametrize(
    ("resources", "shape", "expected"),
    [
        ({"requests": {"cpu": "1"}}, InstanceShape(), {"requests": {"cpu": "1"}}),
        (
            {"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}, "claims": [{"name": "c"}]},
            InstanceShape(vcpus=4),
            {
                "requests": {"cpu": "4", "ephemeral-storage": "1Gi"},
                "limits": {"cpu": "4"},
                "claims": [{"name": "c"}],
            },
        ),
        (
            {"limits": None},
            InstanceShape(vcpus=2, memory_gb=8),
            {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        ),
    ],
)
def test_the_instance_shape_sets_its_axes_alone(
    resources: dict[str, Any], shape: InstanceShape, expected: dict[str, Any]
) -> None:
    assert pod_template.with_shape(resources, shape) == expected


# ---------------------------------------------------------------------------- shorthands


SHORTHANDS: dict[str, Any] = {
    "service_account": "runner",
    "image_pull_secrets": ("regcred",),
    "node_selector": {"pool": "agents"},
    "tolerations": ({"key": "agents", "operator": "Exists"},),
    "resources": {"limits": {"memory": "4Gi"}},
    "termination_grace_period_seconds": 0,
    "environment": (EnvEntry("PROXY", "http://proxy"), EnvEntry("UNRESOLVED")),
}


def test_shorthands_fill_what_the_template_leaves_unset() -> None:
    pod = pod_template.base_pod(KubernetesConfig(**SHORTHANDS))
    assert pod == {
        "serviceAccountName": "runner",
        "imagePullSecrets": [{"name": "regcred"}],
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "agents", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "task",
                "resources": {"limits": {"memory": "4Gi"}},
                "env": [{"name": "PROXY", "value": "http://proxy"}],
            }
        ],
        "initContainers": [],
        "volumes": [],
    }


TEMPLATE: dict[str, Any] = {
    "serviceAccountName": "theirs",
    "imagePullSecrets": [{"name": "theirs"}],
    "nodeSelector": {"pool": "theirs"},
    "tolerations": [],
    "terminationGracePeriodSeconds": 30,
    "containers": [
        {"name": "task", "resources": {}, "env": [{"name": "PROXY", "valueFrom": {"fieldRef": {}}}]}
    ],
}


def test_the_template_wins_over_shorthands_and_the_conflicts_are_named() -> None:
    config = KubernetesConfig(**SHORTHANDS, pod_template=TEMPLATE)
    pod = pod_template.base_pod(config)
    assert {**pod, "initContainers": [], "volumes": []} == {**TEMPLATE, "initContainers": [], "volumes": []}
    assert pod_template.shorthand_conflicts(config) == [
        ("service_account", "serviceAccountName"),
        ("image_pull_secrets", "imagePullSecrets"),
        ("node_selector", "nodeSelector"),
        ("tolerations", "tolerations"),
        ("termination_grace_period_seconds", "terminationGracePeriodSeconds"),
        ("resources", "containers[task].resources"),
        ("environment", "containers[task].env[PROXY]"),
    ]


def test_a_field_set_twice_to_one_value_is_no_conflict() -> None:
    template = {
        "serviceAccount": "runner",
        "imagePullSecrets": [{"name": "regcred"}],
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "agents", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "task",
                "resources": {"limits": {"memory": "4Gi"}},
                "env": [{"name": "PROXY", "value": "http://proxy"}],
            }
        ],
    }
    config = KubernetesConfig(**SHORTHANDS, pod_template=template)
    assert pod_template.shorthand_conflicts(config) == []
    assert "serviceAccountName" not in pod_template.base_pod(config)


def test_without_shorthands_nothing_conflicts() -> None:
    assert pod_template.shorthand_conflicts(KubernetesConfig(pod_template=TEMPLATE)) == []


@pytest.mark.parametrize(
    ("volume", "conflicts"),
    [
        ({"emptyDir": {"sizeLimit": "1Gi"}}, []),
        ({"emptyDir": {"sizeLimit": "2Gi"}}, [("workspace_size_limit", "volumes[workspace]")]),
        ({"emptyDir": {}}, [("workspace_size_limit", "volumes[workspace]")]),
        (
            {"persistentVolumeClaim": {"claimName": "c"}},
            [("workspace_size_limit", "volumes[workspace]")],
        ),
    ],
)
def test_a_limit_of_the_workspace_goes_with_no_other_volume(
    volume: dict[str, Any], conflicts: list[tuple[str, str]]
) -> None:
    template = {"volumes": [{"name": "workspace", **volume}, {"name": "cache", "emptyDir": {}}]}
    config = KubernetesConfig(workspace_size_limit="1Gi", pod_template=template)
    assert pod_template.shorthand_conflicts(config) == conflicts
    assert pod_template.shorthand_conflicts(KubernetesConfig(pod_template=template)) == []


def test_an_unusable_template_conflicts_with_no_shorthand_of_the_container() -> None:
    config = KubernetesConfig(resources={"limits": {"cpu": "1"}}, pod_template={"containers": "task"})
    assert pod_template.shorthand_conflicts(config) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"service_account": "runner"}, None),
        ({"pod_template": {"serviceAccountName": "runner"}}, None),
        ({"pod_template": {"automountServiceAccountToken": True}}, True),
        ({"pod_template": {"automountServiceAccountToken": False}, "service_account": "x"}, False),
    ],
)
def test_a_pod_gets_no_token_unless_it_is_asked_for(settings: dict[str, Any], expected: bool | None) -> None:
    pod = pod_template.base_pod(KubernetesConfig(**settings))
    assert pod.get("automountServiceAccountToken") is expected


# --------------------------------------------------------------------------- its checks


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ({"containers": "task"}, "pod_template.containers"),
        ({"containers": ["task"]}, "pod_template.containers[0]"),
        ({"volumes": [{"emptyDir": {}}]}, "pod_template.volumes[0]"),
        ({"initContainers": [{"name": "setup"}]}, "pod_template.initContainers[setup]"),
        ({"initContainers": [{"name": "copy-sidecar-0"}]}, "pod_template.initContainers[copy-sidecar-0]"),
        ({"volumes": [{"name": "sidecar-1-data"}]}, "pod_template.volumes[sidecar-1-data]"),
        ({"containers": [{"name": "task", "env": {"A": "b"}}]}, "pod_template.containers[task].env"),
        (
            {"containers": [{"name": "task", "volumeMounts": [{"name": "v", "mountPath": "/workspace/"}]}]},
            "pod_template.containers[task].volumeMounts[v]",
        ),
        (
            {"containers": [{"name": "task", "resources": {"limits": {"memory": "4GiB"}}}]},
            "pod_template.containers[task].resources.limits.memory",
        ),
        (
            {"initContainers": [{"name": "warm-up", "resources": {"limit": {}}}]},
            "pod_template.initContainers[warm-up].resources.limit",
        ),
        ({"containers": [{"name": "task", "resources": []}]}, "pod_template.containers[task].resources"),
        ({"nodeSelector": {1: "x"}}, "pod_template.nodeSelector.1"),
        ({"nodeSelector": {"day": date(2026, 1, 1)}}, "pod_template.nodeSelector.day"),
    ],
)
def test_an_unusable_template_is_named_by_path(template: dict[str, Any], path: str) -> None:
    problems = pod_template.template_problems(template)
    assert [where for where, _ in problems] == [path]
    assert all(re.search(r"\w", what) for _, what in problems)


def test_a_template_that_only_the_api_server_can_judge_has_no_problems() -> None:
    template = {"containers": None, "volumes": [{"name": "workspace", "hostPath": {}}], "typo": 1.5}
    assert pod_template.template_problems(template) == []
