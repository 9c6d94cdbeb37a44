"""Every key of the config file, with its default and another value."""

import ast
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.config.load import parse_file
from oz_agent_worker.worker.config.schema import (
    CommandConfig,
    DirectConfig,
    DockerConfig,
    FileConfig,
    KubernetesConfig,
)
from oz_agent_worker.worker.config.shapes import EnvEntry

SOURCE = Path(__file__).parents[4] / "src" / "oz_agent_worker"


def _parsed(text: str) -> FileConfig:
    config, problems = parse_file(text, "f.yaml")
    assert problems.found == []
    return config


DEFAULTS: dict[type[Any], dict[str, Any]] = {
    FileConfig: {
        "worker_id": None,
        "cleanup": True,
        "max_concurrent_tasks": 0,
        "idle_on_complete": None,
        "strict": False,
        "backend": {},
    },
    DockerConfig: {"volumes": (), "environment": ()},
    DirectConfig: {
        "workspace_root": "/var/lib/oz/workspaces",
        "target_dir": None,
        "oz_path": None,
        "setup_command": None,
        "teardown_command": None,
        "environment": (),
    },
    CommandConfig: {"cancel_command": None, "dispatch_timeout": 60.0, "environment": ()},
    KubernetesConfig: {
        "namespace": "default",
        "kubeconfig": None,
        "default_image": None,
        "preflight_image": "busybox:1.36",
        "sidecar_image": None,
        "image_pull_policy": "IfNotPresent",
        "use_image_volumes": False,
        "coding_cli_sidecars": {},
        "setup_command": None,
        "teardown_command": None,
        "extra_labels": {},
        "extra_annotations": {},
        "active_deadline_seconds": None,
        "ttl_seconds_after_finished": 86400,
        "workspace_size_limit": None,
        "unschedulable_timeout": 30.0,
        "scale_up_timeout": 600.0,
        "pull_grace": 60.0,
        "pod_template": {},
        "preflight_resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "100m", "memory": "64Mi"},
        },
        "service_account": None,
        "image_pull_secrets": (),
        "node_selector": {},
        "tolerations": (),
        "resources": {},
        "termination_grace_period_seconds": None,
        "environment": (),
        "retry_on_disruption": 0,
        "preflight_unschedulable": "fail",
        "task_env_secret": False,
        "evidence_dir": None,
    },
}

#: A value that differs from the default, and what it is decoded as.
VALUES: dict[type[Any], dict[str, tuple[str, Any]]] = {
    FileConfig: {
        "worker_id": ("my-worker", "my-worker"),
        "cleanup": ("false", False),
        "max_concurrent_tasks": ("4", 4),
        "idle_on_complete": ("10m", "10m"),
        "strict": ("true", True),
        "backend": ("{direct: {}}", {"direct": DirectConfig()}),
    },
    DockerConfig: {
        "volumes": ("['/a:/b', 'name:/c:ro']", ("/a:/b", "name:/c:ro")),
        "environment": (
            "[{name: A, value: b}, {name: FROM_HOST}]",
            (EnvEntry("A", "b"), EnvEntry("FROM_HOST")),
        ),
    },
    DirectConfig: {
        "workspace_root": ("/w", "/w"),
        "target_dir": ("/t", "/t"),
        "oz_path": ("/bin/oz", "/bin/oz"),
        "setup_command": ("make ready", "make ready"),
        "teardown_command": ("make clean", "make clean"),
        "environment": ("[{name: A, value: ''}]", (EnvEntry("A", ""),)),
    },
    CommandConfig: {
        "dispatch_command": ("go", "go"),
        "cancel_command": ("stop", "stop"),
        "dispatch_timeout": ("1m30s", 90.0),
        "environment": ("[{name: A, value: 1.10}]", (EnvEntry("A", "1.10"),)),
    },
    KubernetesConfig: {
        "namespace": ("agents", "agents"),
        "kubeconfig": ("~/.kube/other", "~/.kube/other"),
        "default_image": ("img:1", "img:1"),
        "preflight_image": ("probe:1", "probe:1"),
        "sidecar_image": ("side:1", "side:1"),
        "image_pull_policy": ("Always", "Always"),
        "use_image_volumes": ("true", True),
        "coding_cli_sidecars": ("{claude: cli:1}", {"claude": "cli:1"}),
        "setup_command": ("before", "before"),
        "teardown_command": ("after", "after"),
        "extra_labels": ("{team: a.b_c-1, version: 1.10}", {"team": "a.b_c-1", "version": "1.10"}),
        "extra_annotations": ("{note: 'any text', empty: ''}", {"note": "any text", "empty": ""}),
        "active_deadline_seconds": ("3600", 3600),
        "ttl_seconds_after_finished": ("0", 0),
        "workspace_size_limit": ("10Gi", "10Gi"),
        "unschedulable_timeout": ("0s", 0.0),
        "scale_up_timeout": ("15m", 900.0),
        "pull_grace": ("2m", 120.0),
        "pod_template": (
            "{containers: [{name: task, resources: {limits: {cpu: 2}}}]}",
            {"containers": [{"name": "task", "resources": {"limits": {"cpu": 2}}}]},
        ),
        "preflight_resources": ("{limits: {cpu: 1}}", {"limits": {"cpu": 1}}),
        "service_account": ("agent", "agent"),
        "image_pull_secrets": ("[a, b]", ("a", "b")),
        "node_selector": ("{disk: ssd}", {"disk": "ssd"}),
        "tolerations": ("[{key: gpu, operator: Exists}]", ({"key": "gpu", "operator": "Exists"},)),
        "resources": ("{requests: {cpu: 1}}", {"requests": {"cpu": 1}}),
        "termination_grace_period_seconds": ("0", 0),
        "environment": ("[{name: A, value: b}]", (EnvEntry("A", "b"),)),
        "retry_on_disruption": ("2", 2),
        "preflight_unschedulable": ("warn", "warn"),
        "task_env_secret": ("true", True),
        "evidence_dir": ("/var/lib/oz/evidence", "/var/lib/oz/evidence"),
    },
}
SECTIONS: dict[type[Any], str] = {
    FileConfig: "",
    DockerConfig: "backend.docker",
    DirectConfig: "backend.direct",
    CommandConfig: "backend.command",
    KubernetesConfig: "backend.kubernetes",
}
REQUIRED = {CommandConfig: {"dispatch_command": "go"}}


def _document(section: str, body: str) -> str:
    for part in reversed(section.split(".") if section else []):
        body = f"{part}: {{{body}}}"
    return "{" + body + "}"


def _section_of(config: FileConfig, section: str) -> Any:
    found: Any = config
    for part in section.split(".") if section else []:
        found = found[part] if isinstance(found, Mapping) else getattr(found, part)
    return found


EVERY_KEY = [
    pytest.param(schema, key, text, expected, id=f"{SECTIONS[schema]}.{key}".lstrip("."))
    for schema, values in VALUES.items()
    for key, (text, expected) in values.items()
]


@pytest.mark.parametrize("schema", list(SECTIONS), ids=[schema.__name__ for schema in SECTIONS])
def test_the_tables_of_this_file_hold_every_key(schema: type[Any]) -> None:
    names = {field.name for field in dataclasses.fields(schema)}
    assert set(VALUES[schema]) == names
    assert set(DEFAULTS[schema]) == names - set(REQUIRED.get(schema, {}))


@pytest.mark.parametrize("schema", list(SECTIONS), ids=[schema.__name__ for schema in SECTIONS])
def test_defaults(schema: type[Any]) -> None:
    required = REQUIRED.get(schema, {})
    body = ", ".join(f"{key}: {value}" for key, value in required.items())
    expected = schema(**required, **DEFAULTS[schema])
    assert _section_of(_parsed(_document(SECTIONS[schema], body)), SECTIONS[schema]) == expected


def test_a_backend_s_section_without_content_is_a_section() -> None:
    assert _parsed("backend: {kubernetes: }").backend == {"kubernetes": KubernetesConfig()}


@pytest.mark.parametrize(("schema", "key", "text", "expected"), EVERY_KEY)
def test_every_key_decodes(schema: type[Any], key: str, text: str, expected: Any) -> None:
    required = {k: v for k, v in REQUIRED.get(schema, {}).items() if k != key}
    body = ", ".join([f"{key}: {text}", *(f"{k}: {v}" for k, v in required.items())])
    decoded = _section_of(_parsed(_document(SECTIONS[schema], body)), SECTIONS[schema])
    assert decoded == schema(**{**required, key: expected})


@pytest.mark.parametrize(
    ("schema", "key"),
    [(schema, key) for schema, defaults in DEFAULTS.items() for key in defaults],
)
def test_a_null_leaves_a_key_at_its_default(schema: type[Any], key: str) -> None:
    body = ", ".join([f"{key}: null", *(f"{k}: {v}" for k, v in REQUIRED.get(schema, {}).items())])
    decoded = _section_of(_parsed(_document(SECTIONS[schema], body)), SECTIONS[schema])
    assert getattr(decoded, key) == DEFAULTS[schema][key]


@pytest.mark.parametrize(
    "key", ["oz_path", "target_dir", "workspace_root", "setup_command", "teardown_command"]
)
def test_an_empty_string_leaves_a_key_at_its_default(key: str) -> None:
    assert _parsed(f"backend: {{direct: {{{key}: ''}}}}").backend == {"direct": DirectConfig()}


_yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from([schema for schema in SECTIONS if schema is not FileConfig]), st.data())
def test_no_value_of_any_key_raises(schema: type[Any], data: st.DataObject) -> None:
    names = [field.name for field in dataclasses.fields(schema)]
    body = data.draw(st.dictionaries(st.sampled_from(names), _yaml_values, max_size=3))
    document: Any = body
    for part in reversed(SECTIONS[schema].split(".")):
        document = {part: document}
    config, problems = parse_file(yaml.safe_dump(document), "f.yaml")
    assert isinstance(config, FileConfig)
    assert all(isinstance(problem, str) for problem in problems.found)


def test_every_key_of_the_kubernetes_backend_is_read() -> None:
    read = {
        node.attr
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "config"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert [field.name for field in dataclasses.fields(KubernetesConfig) if field.name not in read] == []
