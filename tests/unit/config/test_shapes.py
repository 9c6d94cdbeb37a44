import contextlib
import dataclasses
import datetime
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.config import shapes
from oz_agent_worker.config.load import parse_file
from oz_agent_worker.config.schema import (
    BackendsConfig,
    CommandConfig,
    DirectConfig,
    DockerConfig,
    FileConfig,
    KubernetesConfig,
)
from oz_agent_worker.config.shapes import EnvEntry, Problems, Shape, parse_duration
from oz_agent_worker.errors import ConfigError


def _decode(shape: Shape[Any], text: str) -> tuple[Any, list[str]]:
    problems = Problems("f.yaml")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    return shape.decode(node, "key", problems), problems.found


def _parsed(text: str) -> FileConfig:
    config, problems = parse_file(text, "f.yaml")
    assert problems.found == []
    return config


# ------------------------------------------------------------------- the file's every key

DEFAULTS: dict[type[Any], dict[str, Any]] = {
    FileConfig: {
        "worker_id": None,
        "cleanup": True,
        "max_concurrent_tasks": 0,
        "idle_on_complete": None,
        "backend": BackendsConfig(),
    },
    BackendsConfig: {"docker": None, "direct": None, "command": None, "kubernetes": None},
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
    },
}

#: A value that differs from the default, and what it is decoded as.
VALUES: dict[type[Any], dict[str, tuple[str, Any]]] = {
    FileConfig: {
        "worker_id": ("my-worker", "my-worker"),
        "cleanup": ("false", False),
        "max_concurrent_tasks": ("4", 4),
        "idle_on_complete": ("10m", "10m"),
        "backend": ("{direct: {}}", BackendsConfig(direct=DirectConfig())),
    },
    BackendsConfig: {
        "docker": ("{}", DockerConfig()),
        "direct": ("{target_dir: /d}", DirectConfig(target_dir="/d")),
        "command": ("{dispatch_command: go}", CommandConfig(dispatch_command="go")),
        "kubernetes": ("", KubernetesConfig()),
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
    },
}
SECTIONS: dict[type[Any], str] = {
    FileConfig: "",
    BackendsConfig: "backend",
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
        found = getattr(found, part)
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


@pytest.mark.parametrize(("schema", "key", "text", "expected"), EVERY_KEY)
def test_every_key_decodes(schema: type[Any], key: str, text: str, expected: Any) -> None:
    required = {k: v for k, v in REQUIRED.get(schema, {}).items() if k != key}
    body = ", ".join([f"{key}: {text}", *(f"{k}: {v}" for k, v in required.items())])
    decoded = _section_of(_parsed(_document(SECTIONS[schema], body)), SECTIONS[schema])
    assert decoded == schema(**{**required, key: expected})


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        (schema, key)
        for schema, defaults in DEFAULTS.items()
        for key in defaults
        if schema is not BackendsConfig  # a section without content is a section
    ],
)
def test_a_null_leaves_a_key_at_its_default(schema: type[Any], key: str) -> None:
    body = ", ".join([f"{key}: null", *(f"{k}: {v}" for k, v in REQUIRED.get(schema, {}).items())])
    decoded = _section_of(_parsed(_document(SECTIONS[schema], body)), SECTIONS[schema])
    assert getattr(decoded, key) == DEFAULTS[schema][key]


@pytest.mark.parametrize(
    "key", ["oz_path", "target_dir", "workspace_root", "setup_command", "teardown_command"]
)
def test_an_empty_string_leaves_a_key_at_its_default(key: str) -> None:
    assert _parsed(f"backend: {{direct: {{{key}: ''}}}}").backend.direct == DirectConfig()


# --------------------------------------------------------------------- what is not allowed


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key() -> None:
    _, problems = parse_file("worker_id: a\nbackend:\n  kubernetes:\n    namespce: b\n", "f.yaml")
    assert problems.found == [
        "f.yaml:4: backend.kubernetes.namespce: unknown key `namespce`; did you mean `namespace`?"
    ]


def test_an_unknown_key_that_is_near_to_nothing_gets_the_list() -> None:
    _, problems = parse_file("backend: {command: {dispatch_command: a, zzz: 1}}", "f.yaml")
    assert problems.found == [
        "f.yaml:1: backend.command.zzz: unknown key `zzz`; "
        "known are cancel_command, dispatch_command, dispatch_timeout, environment"
    ]


def test_all_errors_are_shown_at_once_each_with_its_place() -> None:
    content = """\
worker_id: [a]
cleanup: maybe
max_concurrent_tasks: -1
idle_on_complete: soon
worker_id: twice
unknown: 1
backend:
  kubernetes:
    namespace: Upper
    default_image: "a b"
    image_pull_policy: Sometimes
    active_deadline_seconds: 0
    workspace_size_limit: 10GiB
    unschedulable_timeout: 30
    extra_labels: {a: "no spaces", b: true}
    pod_template: [x]
    image_pull_secrets: x
    tolerations: [y]
    environment:
      - {name: A, values: b}
      - {value: b}
"""
    _, problems = parse_file(content, "f.yaml")
    assert problems.found == [
        "f.yaml:5: worker_id: this key stands twice",
        "f.yaml:1: worker_id: read a list, allowed is a string",
        "f.yaml:2: cleanup: read 'maybe', allowed is true or false",
        "f.yaml:3: max_concurrent_tasks: read -1, allowed is a whole number, 0 or more",
        "f.yaml:4: idle_on_complete: read 'soon', allowed is a duration such as 45m or 0s",
        "f.yaml:6: unknown: unknown key `unknown`; known are backend, cleanup, idle_on_complete, "
        "max_concurrent_tasks, worker_id",
        "f.yaml:9: backend.kubernetes.namespace: read 'Upper', "
        "allowed is a name of a-z, 0-9 and -, 63 characters at most",
        "f.yaml:10: backend.kubernetes.default_image: read 'a b', allowed is a string without white space",
        "f.yaml:11: backend.kubernetes.image_pull_policy: read 'Sometimes', "
        "allowed is one of Always, Never, IfNotPresent",
        "f.yaml:12: backend.kubernetes.active_deadline_seconds: read 0, allowed is a whole number, 1 or more",
        "f.yaml:13: backend.kubernetes.workspace_size_limit: read '10GiB', "
        "allowed is a Kubernetes quantity such as 10Gi or 500M",
        "f.yaml:14: backend.kubernetes.unschedulable_timeout: read 30, "
        "allowed is a duration such as 30s, 5m or 1h30m",
        "f.yaml:15: backend.kubernetes.extra_labels.a: read 'no spaces', allowed is a label value "
        "(a-z, A-Z, 0-9, -, _, ., 63 at most, quoted where YAML sees no string)",
        "f.yaml:15: backend.kubernetes.extra_labels.b: read true, allowed is a label value "
        "(a-z, A-Z, 0-9, -, _, ., 63 at most, quoted where YAML sees no string)",
        "f.yaml:16: backend.kubernetes.pod_template: read a list, allowed is a mapping",
        "f.yaml:17: backend.kubernetes.image_pull_secrets: read 'x', "
        "allowed is a list of a string without white space",
        "f.yaml:18: backend.kubernetes.tolerations[0]: read 'y', allowed is a mapping",
        "f.yaml:20: backend.kubernetes.environment[0].values: unknown key `values`; did you mean `value`?",
        "f.yaml:21: backend.kubernetes.environment[1].name: "
        "allowed is a variable's name, without white space or =",
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{}", "f.yaml:1: backend.command.dispatch_command: this key is required"),
        ("{dispatch_command: ''}", "f.yaml:1: backend.command.dispatch_command: this key is required"),
        (
            "{dispatch_command: [a]}",
            "f.yaml:1: backend.command.dispatch_command: read a list, allowed is a string",
        ),
        ("5", "f.yaml:1: backend.command: read 5, allowed is a mapping"),
    ],
)
def test_a_required_key(body: str, problem: str) -> None:
    _, problems = parse_file(f"backend: {{command: {body}}}", "f.yaml")
    assert problems.found[0] == problem


def test_a_document_that_is_no_mapping() -> None:
    _, problems = parse_file("- a\n- b\n", "f.yaml")
    assert problems.found == ["f.yaml:1: read a list, allowed is a mapping"]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("&p {self: *p}", "Circular reference detected"),
        ("{when: 2026-01-31}", "Object of type date is not JSON serializable"),
        ("{x: .nan}", "Out of range float values are not JSON compliant"),
        ("{x: !!binary aGk=}", "Object of type bytes is not JSON serializable"),
        ("{x: !!set {a, b}}", "Object of type set is not JSON serializable"),
    ],
)
def test_a_raw_mapping_must_be_json(text: str, detail: str) -> None:
    value, problems = _decode(shapes.raw_mapping(), text)
    assert value is None
    assert [re.sub(r": nan$", "", problem) for problem in problems] == [
        f"f.yaml:1: key: this cannot be written as JSON: {detail}"
    ]


def test_a_raw_mapping_takes_anchors_merges_and_numbers_as_keys() -> None:
    value, problems = _decode(shapes.raw_mapping(), "{a: &a {x: 1}, b: *a, c: {<<: *a, y: 2}, d: {1: z}}")
    assert problems == []
    assert value == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}, "d": {"1": "z"}}


CANARY = "canary-e0c7"


@pytest.mark.parametrize(
    "environment",
    [
        f"[TOKEN={CANARY}]",
        f"TOKEN={CANARY}",
        f"{{TOKEN: {CANARY}}}",
        f"[{{name: [{CANARY}], value: x}}]",
        f"[{{name: 'TOKEN={CANARY}'}}]",
        f"[{{name: A, value: [{CANARY}]}}]",
        f"[{{name: A, value: {{b: {CANARY}}}}}]",
        f'[{{name: A, value: "{CANARY}\\0"}}]',
        f"[{{name: '', value: {CANARY}}}]",
        f"[{{name: A B, value: {CANARY}}}]",
        f"[{{nam: A, value: {CANARY}}}]",
    ],
)
def test_a_problem_of_the_environment_shows_no_value(environment: str) -> None:
    _, problems = _decode(shapes.environment(), environment)
    assert problems
    assert not any(CANARY in problem for problem in problems)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("b", "b"),
        ("''", ""),
        ("null", None),
        ("", None),
        ("5", "5"),
        ("true", "true"),
        ("1.10", "1.10"),
        ("2026-01-31", "2026-01-31"),
        ("' a b '", " a b "),
    ],
)
def test_a_variable_s_value_is_the_text_as_written(value: str, expected: str | None) -> None:
    assert _decode(shapes.environment(), f"[{{name: A, value: {value}}}]") == ((EnvEntry("A", expected),), [])


def test_an_entry_of_the_environment_prints_no_value() -> None:
    assert CANARY not in repr(EnvEntry("A", CANARY))


# ---------------------------------------------------------------------------------- scalars


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("7µs", 7e-6),
        ("3ns", 3e-9),
        ("2d", 172800.0),
        ("30sec", 30.0),
        ("5min", 300.0),
        ("2hr", 7200.0),
        ("2 hours 5 minutes", 7500.0),
        ("1day", 86400.0),
        ("2days", 172800.0),
        ("1w", 604800.0),
        ("1M", 2630016.0),
        ("1year", 31557600.0),
        ("1h 30m", 5400.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "30", "s", "5x", "-5s", "+5s", "1h30", "5 m x", "1e3s", "∞", "\u0663s", "5S", "00", ".5s"],
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


@given(st.text(alphabet="0123456789.smhdun µ", max_size=12))
def test_a_duration_is_never_negative(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0.0


@pytest.mark.parametrize(
    "text",
    [
        "10Gi",
        "500M",
        "1",
        "1.5",
        "0.5Gi",
        ".5Gi",
        "5.",
        "100m",
        "1k",
        "1e3",
        "1E3",
        "1e-3",
        "+1Gi",
        "2Ei",
        "5n",
    ],
)
def test_quantities(text: str) -> None:
    value, problems = _decode(shapes.quantity(), f"'{text}'")
    assert (value, problems) == (text, [])


@pytest.mark.parametrize(
    "text",
    ["10GB", "10K", "10ki", "1mi", "Gi", "-1Gi", "1 Gi", "1e", "1,5", "\u0661Gi", "1_000", "10gi", "1.2.3"],
)
def test_what_is_no_quantity(text: str) -> None:
    value, problems = _decode(shapes.quantity(), f"'{text}'")
    assert value is None
    assert problems == [
        f"f.yaml:1: key: read '{text}', allowed is a Kubernetes quantity such as 10Gi or 500M"
    ]


@pytest.mark.parametrize("text", ["a", "a-b", "1", "x" * 63])
def test_namespaces(text: str) -> None:
    assert _decode(shapes.dns_label(), text) == (text, [])


@pytest.mark.parametrize("text", ["A", "a_b", "-a", "a-", "a.b", "x" * 64, "ä"])
def test_what_is_no_namespace(text: str) -> None:
    assert _decode(shapes.dns_label(), f"'{text}'")[0] is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", "5"), ("1.10", "1.10"), ("0x1F", "0x1F"), ("2026-01-31", "2026-01-31"), ("'y'", "y")],
)
def test_a_number_counts_as_the_text_that_was_written(text: str, value: str) -> None:
    assert _decode(shapes.text(), text) == (value, [])


@pytest.mark.parametrize("text", ["true", "no", "[a]", "{a: b}", '"a\\0b"'])
def test_what_is_no_text(text: str) -> None:
    assert _decode(shapes.text(), text)[0] is None


@pytest.mark.parametrize("text", ["1", "0", "'true'", "[true]"])
def test_what_is_no_boolean(text: str) -> None:
    assert _decode(shapes.boolean(), text)[0] is None


@pytest.mark.parametrize("text", ["true", "1.0", "'1'", "null", "9" * 5000])
def test_what_is_no_integer(text: str) -> None:
    value, problems = _decode(shapes.integer(minimum=0), text)
    assert value is None
    assert len(problems) == 1


@pytest.mark.parametrize("text", ["/a", "/a:b", ":/b", "/a:/b:rx", "/a:/b:ro:", "/a:", "5", "[/a]"])
def test_what_is_no_volume(text: str) -> None:
    assert _decode(shapes.volume(), f"'{text}'")[0] is None


def test_what_was_read_is_shown_in_short() -> None:
    _, problems = _decode(shapes.boolean(), "x" * 500)
    assert problems == [f"f.yaml:1: key: read '{'x' * 76}..., allowed is true or false"]


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


@given(st.text(alphabet="a:-[]{}&*!|>%@`'\"#,? \n\t<0\0", max_size=30))
def test_no_text_raises_but_as_a_config_error(content: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_file(content, "f.yaml")


def test_the_tags_of_other_languages_make_no_objects() -> None:
    value, problems = _decode(shapes.raw_mapping(), "{x: !!python/object/apply:os.getpid []}")
    assert value is None
    assert problems
    assert isinstance(yaml.safe_load("2026-01-31"), datetime.date)  # what the dates above are about
