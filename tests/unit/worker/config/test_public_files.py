"""Files and flags that run with the public worker run here, with its values.

Each row is a leniency of the public worker's own decoding. Where this worker would rather have
something else, the row has the warning; with ``strict`` that is an error.
"""

import json
from typing import Any

import pytest
import yaml

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags, parse_file, resolve
from oz_agent_worker.worker.config.schema import (
    CommandConfig,
    DirectConfig,
    DockerConfig,
    FileConfig,
    KubernetesConfig,
)

CANARY = "canary-77d1"
GIVEN: dict[str, Any] = {"worker_id": "w", "api_key": Secret("k")}
QUOTE = "programs read this in different ways, and it is taken as it is written: put it in quotes"


def joined(
    content: str, environ: dict[str, str] | None = None, **flags: Any
) -> tuple[WorkerConfig, list[str]]:
    """The configuration of a file and flags, and its problems."""
    file, problems = parse_file(content, "f.yaml")
    config = resolve(WorkerFlags(**{**GIVEN, **flags}), file, problems, environ or {})
    return config, problems.found


def found_in(config: WorkerConfig, path: str) -> Any:
    """The value at a dotted path, such as ``backend.pod_template.containers.0.args``."""
    value: Any = config
    for part in path.split("."):
        if isinstance(value, dict):
            value = value[part]
        elif isinstance(value, list | tuple):
            value = value[int(part)]
        else:
            value = getattr(value, part)
    return value.reveal() if isinstance(value, Secret) else value


KUBERNETES: list[tuple[str, str, Any, str | None]] = [
    # White space is space and tab.
    ("default_image: \"a\\u00a0b\"", "default_image", "a\xa0b", r"'a\xa0b' contains white space: remove it"),
    ("preflight_image: \"a\\n\"", "preflight_image", "a\n", r"'a\n' contains white space: remove it"),
    # Durations.
    ("unschedulable_timeout: 0", "unschedulable_timeout", 0.0, None),
    ("unschedulable_timeout: 0s", "unschedulable_timeout", 0.0, None),
    ("unschedulable_timeout: -5m", "unschedulable_timeout", 0.0, None),
    ("unschedulable_timeout: -.5s", "unschedulable_timeout", 0.0, None),
    ("unschedulable_timeout: .5s", "unschedulable_timeout", 0.5, None),
    ("unschedulable_timeout: +2m", "unschedulable_timeout", 120.0, None),
    ("unschedulable_timeout: ''", "unschedulable_timeout", 30.0, None),
    # 0 is applied.
    ("active_deadline_seconds: 0", "active_deadline_seconds", 0,
     "0 ends every Job at once: leave this key out for no limit"),
    ("ttl_seconds_after_finished: 0", "ttl_seconds_after_finished", 0, None),
    # Scalars where Kubernetes has strings.
    ("extra_labels: {a: 1}", "extra_labels", {"a": "1"}, None),
    ("extra_labels: {a: true}", "extra_labels", {"a": "true"}, None),
    ("extra_labels: {a: 1.5}", "extra_labels", {"a": "1.5"}, None),
    ("extra_labels: {a: ~}", "extra_labels", {"a": ""}, None),
    ("extra_labels: {<<: {a: 1}, b: c}", "extra_labels", {"a": "1", "b": "c"}, None),
    ("extra_annotations: {<<: [{a: b}, {a: c, x/y: d}]}", "extra_annotations", {"a": "b", "x/y": "d"}, None),
    ("node_selector: {<<: {a: b}}", "node_selector", {"a": "b"}, None),
    ("extra_annotations: {a: false}", "extra_annotations", {"a": "false"}, None),
    ("extra_annotations: {a: 0x10}", "extra_annotations", {"a": "0x10"}, QUOTE),
    ("extra_annotations: {a: 1.0}", "extra_annotations", {"a": "1.0"}, QUOTE),
    ("extra_annotations: {a: 1e3}", "extra_annotations", {"a": "1e3"}, QUOTE),
    ("extra_annotations: {a: 1_000}", "extra_annotations", {"a": "1_000"}, QUOTE),
    ("extra_annotations: {a: 017}", "extra_annotations", {"a": "017"}, QUOTE),
    ("extra_annotations: {a: yes}", "extra_annotations", {"a": "yes"}, QUOTE),
    ("extra_annotations: {a: TRUE}", "extra_annotations", {"a": "TRUE"}, QUOTE),
    ("extra_annotations: {a: 2026-01-31}", "extra_annotations", {"a": "2026-01-31"}, QUOTE),
    ("extra_annotations: {a: .inf}", "extra_annotations", {"a": ".inf"}, QUOTE),
    ("extra_annotations: {a: 12:30}", "extra_annotations", {"a": "12:30"}, None),
    ("extra_annotations: {a: =}", "extra_annotations", {"a": "="}, None),
    ("default_image: 1", "default_image", "1", None),
    ("setup_command: true", "setup_command", "true", None),
    ("pod_template: {nodeSelector: {gpu: true, n: 2}}", "pod_template.nodeSelector",
     {"gpu": "true", "n": "2"}, None),
    ("pod_template: {containers: [{name: task, env: [{name: A, value: 1}]}]}",
     "pod_template.containers.0.env.0.value", "1", None),
    ("pod_template: {containers: [{name: task, env: [{name: A, value: 0x1}]}]}",
     "pod_template.containers.0.env.0.value", "0x1", QUOTE),
    ("pod_template: {containers: [{name: task, args: [1, off]}]}",
     "pod_template.containers.0.args", ["1", "off"], QUOTE),
    ("pod_template: {hostNetwork: true, priority: 5}", "pod_template",
     {"hostNetwork": True, "priority": 5}, None),
    ("pod_template: {securityContext: {runAsUser: 1e3}}", "pod_template.securityContext.runAsUser",
     1000, None),
    ("pod_template: {containers: [{name: task, restartPolicyRules: [{exitCodes: {values: [1]}}]}]}",
     "pod_template.containers.0.restartPolicyRules.0.exitCodes.values", [1], None),
    ("tolerations: [{key: gpu, value: true}]", "tolerations", ({"key": "gpu", "value": "true"},), None),
    # The worker sets the restart policy.
    ("pod_template: {restartPolicy: Always}", "pod_template.restartPolicy", "Always",
     "a task's Pod has Never, whatever is set here; retry_on_disruption repeats tasks"),
    ("pod_template: {restartPolicy: Never}", "pod_template.restartPolicy", "Never", None),
    # The last of repeated keys counts in what is passed on.
    ("pod_template: {nodeName: a, nodeName: b}", "pod_template.nodeName", "b",
     "this key is repeated: the last one counts"),
    # Null leaves a key at its default, and is left out of a list.
    ("namespace: ~", "namespace", "default", None),
    ("pod_template: ~", "pod_template", {}, None),
    ("pod_template: {containers: ~, nodeSelector: }", "pod_template",
     {"containers": None, "nodeSelector": None}, None),
    ("coding_cli_sidecars: {claude: ~}", "coding_cli_sidecars", {}, "nothing is given here: it is left out"),
    ("use_image_volumes: ", "use_image_volumes", False, None),
    ("use_image_volumes: yes", "use_image_volumes", True, None),
    ("use_image_volumes: 'on'", "use_image_volumes", True, None),
    ("use_image_volumes: y", "use_image_volumes", True, None),
    # Numbers of YAML 1.2.
    ("ttl_seconds_after_finished: 1e3", "ttl_seconds_after_finished", 1000, None),
    ("ttl_seconds_after_finished: 0o17", "ttl_seconds_after_finished", 15, None),
    ("ttl_seconds_after_finished: 017", "ttl_seconds_after_finished", 15, None),
    ("ttl_seconds_after_finished: 60.0", "ttl_seconds_after_finished", 60, None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "path", "value", "warning"), KUBERNETES, ids=[row[0] for row in KUBERNETES])
def test_the_kubernetes_section(line: str, path: str, value: Any, warning: str | None) -> None:
    config, problems = joined(f"backend:\n  kubernetes:\n    {line}\n")
    assert problems == []
    assert found_in(config, f"backend.{path}") == value
    assert len(config.warnings) == (warning is not None)
    for found in config.warnings:
        assert found.startswith("f.yaml:3: backend.kubernetes.")
        assert found.endswith(f": {warning}")


OTHERS: list[tuple[str, str, Any, str | None]] = [
    ("worker_id: my worker", "worker_id", "my worker",
     "f.yaml:1: worker ID 'my worker' contains white space or characters that are not visible: quote it where"
     " runs name it as their host, or choose another"),
    ("worker_id: Warp-1", "worker_id", "Warp-1",
     "f.yaml:1: worker ID 'Warp-1': IDs that begin with `warp` are reserved, and this one differs in case"
     " alone: choose another"),
    ("worker_id: my-warp", "worker_id", "my-warp", None),
    ("worker_id: 12", "worker_id", "12", None),
    ("max_concurrent_tasks: -1", "max_concurrent_tasks", 0, None),
    ("max_concurrent_tasks: 4.0", "max_concurrent_tasks", 4, None),
    ("max_concurrent_tasks: ~", "max_concurrent_tasks", 0, None),
    ("idle_on_complete: 0", "idle_on_complete", "0", None),
    ("idle_on_complete: 0s", "idle_on_complete", "0s", None),
    ("idle_on_complete: 1h 30m", "idle_on_complete", "1h 30m", None),
    ("idle_on_complete: 1000years", "idle_on_complete", "1000years", None),
    ("idle_on_complete: .5s", "idle_on_complete", ".5s",
     "f.yaml:1: idle_on_complete: '.5s' is passed on as it is, and an agent may not read it: write it such as"
     " 45m or 1h 30m"),
    ("idle_on_complete: +2m", "idle_on_complete", "+2m",
     "f.yaml:1: idle_on_complete: '+2m' is passed on as it is, and an agent may not read it: write it such as"
     " 45m or 1h 30m"),
    ("idle_on_complete: ''", "idle_on_complete", None, None),
    ("cleanup: off", "cleanup", False, None),
    ("cleanup: n", "cleanup", False, None),
    ("worker_id: w\n---\nworker_id: [", "worker_id", "w",
     "f.yaml:2: a second document begins here; it is ignored"),
    ("worker_id: w\n...\n", "worker_id", "w", None),
    ("backend: {direct: , kubernetes: {}}", "backend", KubernetesConfig(),
     "f.yaml:1: backend.direct: an empty section beside others does not count"),
    ("backend: {kubernetes: {}, docker: ~}", "backend", KubernetesConfig(),
     "f.yaml:1: backend.docker: an empty section beside others does not count"),
    ("backend: {direct: }", "backend", DirectConfig(), None),
    ("backend:", "backend", DockerConfig(), None),
    *(
        (f"backend: {{command: {{dispatch_command: go, dispatch_timeout: {text}}}}}",
         "backend.dispatch_timeout", seconds, None)
        for text, seconds in (("0s", 60.0), ("0", 60.0), ("-1m", 60.0), ("''", 60.0), (".5s", 0.5))
    ),
    ("backend: {command: {dispatch_command: 1}}", "backend", CommandConfig(dispatch_command="1"), None),
    *(
        (f"backend: {{docker: {{volumes: ['{volume}']}}}}", "backend.volumes", (volume,), None)
        for volume in ("/a:/b:z", "/a:/b:Z", "/a:/b:ro,z", "/a:/b:cached", "/a:/b:rshared", "/data", "n:/b")
    ),
    ("backend: {docker: {volumes: [~, '/a:/b']}}", "backend.volumes", ("/a:/b",),
     "f.yaml:1: backend.docker.volumes[0]: nothing is given here: it is left out"),
    ("backend: {docker: {environment: [{name: A, value: 1}]}}", "environment.A", "1", None),
    ("backend: {docker: {environment: [{name: A, value: true}]}}", "environment.A", "true", None),
    ("backend: {docker: {environment: [{name: A, value: 0x1}]}}", "environment.A", "0x1",
     f"f.yaml:1: backend.docker.environment[0].value: {QUOTE}"),
    ("backend: {direct: {environment: [{name: GONE}]}}", "environment.GONE", "",
     "f.yaml:1: backend.direct.environment[0]: the worker itself does not have this variable:"
     ' tasks get it as ""'),
    ("backend: {direct: {environment: [~]}}", "environment", {},
     "f.yaml:1: backend.direct.environment[0]: nothing is given here: it is left out"),
    ('backend: {direct: {environment: [{name: "A\\u00a0", value: x}]}}', "environment.A\xa0", "x",
     "f.yaml:1: backend.direct.environment[0].name: the name contains white space: remove it"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "path", "value", "warning"), OTHERS, ids=[row[0] for row in OTHERS])
def test_the_rest_of_the_file(content: str, path: str, value: Any, warning: str | None) -> None:
    worker_id = None if "worker_id" in content else "w"
    config, problems = joined(content, worker_id=worker_id)
    assert problems == []
    assert found_in(config, path) == value
    assert config.warnings == ((warning,) if warning else ())


def as_json(content: str) -> str:
    """A YAML file of plain values as a JSON file that is indented with tabs."""
    return json.dumps(yaml.safe_load(content), indent="\t", ensure_ascii=True)


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("pod_template: {nodeSelector: {gpu: true}}", "pod_template.nodeSelector", {"gpu": "true"}),
        ("extra_labels: {a: 1, b: null}", "extra_labels", {"a": "1", "b": ""}),
        ("unschedulable_timeout: 0", "unschedulable_timeout", 0.0),
        ("ttl_seconds_after_finished: 0", "ttl_seconds_after_finished", 0),
        ("setup_command: 'a/b é \U0001f389'", "setup_command", "a/b é \U0001f389"),
    ],
)
def test_a_file_in_json(line: str, path: str, value: Any) -> None:
    config, problems = joined(as_json(f"backend:\n  kubernetes:\n    {line}\n"))
    assert (problems, config.warnings) == ([], ())
    assert found_in(config, f"backend.{path}") == value


# ------------------------------------------------------------------------------------ flags


@pytest.mark.parametrize(
    ("flags", "path", "value", "warning"),
    [
        ({"worker_id": "my worker"}, "worker_id", "my worker", "worker ID 'my worker' contains white space"),
        ({"worker_id": "Warp-1"}, "worker_id", "Warp-1", "worker ID 'Warp-1': IDs that begin with `warp`"),
        ({"max_concurrent_tasks": -1}, "max_concurrent_tasks", 0, None),
        ({"idle_on_complete": "+2m"}, "idle_on_complete", "+2m", "--idle-on-complete: '+2m' is passed on"),
        ({"idle_on_complete": "0"}, "idle_on_complete", "0", None),
        ({"volumes": ("/a:/b:ro,z",)}, "backend.volumes", ("/a:/b:ro,z",), None),
        ({"volumes": ("/a:/b,/c:/d:ro,z,/e",)}, "backend.volumes", ("/a:/b", "/c:/d:ro,z", "/e"), None),
        ({"volumes": ("/a\\,b:/b",)}, "backend.volumes", ("/a,b:/b",), None),
        ({"env": ("A=1,2",)}, "environment.A", "1,2", None),
        ({"env": ("A=1,B=2",)}, "environment.A", "1,B=2", "--env A: a comma is followed by what looks like"),
        (
            {"env": ("A=1,HOME",)},
            "environment.A",
            "1,HOME",
            "--env A: a comma is followed by what looks like",
        ),
        ({"env": ("A=1\\,B=2",)}, "environment.A", "1,B=2", None),
        ({"env": ("HOME,USER",)}, "environment", {"HOME": Secret("/h"), "USER": Secret("u")}, None),
        ({"env": ("HOME,A=1",)}, "environment", {"HOME": Secret("/h"), "A": Secret("1")}, None),
        (
            {"env": ("GONE",)},
            "environment.GONE",
            "",
            "--env GONE: the worker itself does not have this variable",
        ),
        ({"env": ("A\xa0=1",)}, "environment.A\xa0", "1", None),
    ],
    ids=str,
)
def test_flags(flags: dict[str, Any], path: str, value: Any, warning: str | None) -> None:
    config, problems = joined("{}", {"HOME": "/h", "USER": "u"}, **flags)
    assert problems == []
    assert found_in(config, path) == value
    assert len(config.warnings) == (warning is not None)
    assert all(found.startswith(str(warning)) for found in config.warnings)


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    assert joined("{}", max_concurrent_tasks=2**63)[1] == [
        f"--max-concurrent-tasks: read '{2**63}', allowed is a number of 64 bits"
    ]


def test_max_concurrent_tasks_below_0_beats_the_file() -> None:
    assert joined("max_concurrent_tasks: 4", max_concurrent_tasks=-1)[0].max_concurrent_tasks == 0


# ----------------------------------------------------------------------------------- strict

DOUBTFUL = """\
worker_id: Warp-1
idle_on_complete: .5s
backend:
  kubernetes:
    extra_annotations: {a: yes}
    pod_template: {restartPolicy: Always}
---
"""


@pytest.mark.parametrize("by_flag", [True, False])
def test_strict_makes_every_warning_an_error(by_flag: bool) -> None:
    content = DOUBTFUL if by_flag else f"strict: true\n{DOUBTFUL}"
    given: dict[str, Any] = {"worker_id": None, "env": ("GONE",), "target_dir": "/d"}
    lenient, none = joined(DOUBTFUL, **given)
    assert none == []
    config, problems = joined(content, **given, strict=by_flag)
    assert config.warnings == ()
    assert len(problems) == len(lenient.warnings) == 7


def test_strict_false_is_the_default() -> None:
    assert joined(f"strict: false\n{DOUBTFUL}")[1] == []


def test_no_value_of_a_variable_is_in_a_warning() -> None:
    content = "backend: {direct: {environment: [{name: A, value: 2026-01-31}]}}\nidle_on_complete: 0\n"
    config, _ = joined(content, env=(f"A={CANARY},B={CANARY}",))
    assert len(config.warnings) == 2
    assert not any(CANARY in warning or "2026" in warning for warning in config.warnings)


# ------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    "content",
    [
        "idle_on_complete: forever",
        "idle_on_complete: 10",
        "idle_on_complete: -5m",
        "worker_id: warp-1",
        "max_concurrent_tasks: 1:30",
        "backend: {kubernetes: {unschedulable_timeout: 1:30}}",
        "backend: {kubernetes: {unschedulable_timeout: 30}}",
        "backend: {kubernetes: {unschedulable_timeout: 300000y}}",
        "backend: {kubernetes: {ttl_seconds_after_finished: 1:30}}",
        "backend: {kubernetes: {default_image: 'a b'}}",
        'backend: {kubernetes: {default_image: "a\\tb"}}',
        "backend: {docker: {volumes: ['/a:/b:rx']}}",
        "backend: {docker: {}, kubernetes: {}}",
    ],
)
def test_what_would_fail_each_task_is_refused_at_the_start(content: str) -> None:
    """P14: 1:30 is no number and no duration."""
    assert len(joined(content, worker_id=None if "worker_id" in content else "w")[1]) == 1


# ------------------------------------------------------------------------------- surrogates


@pytest.mark.parametrize(
    ("escapes", "text"),
    [
        (r"\ud83c\udf89", "\U0001f389"),
        (r"a\uD83C\uDF89b", "a\U0001f389b"),
        (r"\ud800\udc00\udbff\udfff", "\U00010000\U0010ffff"),
        (r"\U0001f389", "\U0001f389"),
    ],
)
def test_two_halves_of_a_character_are_joined(escapes: str, text: str) -> None:
    """K8: JSON writes a character beyond U+FFFF as two escapes."""
    config, problems = joined(f'{{"backend": {{"kubernetes": {{"setup_command": "{escapes}"}}}}}}')
    assert problems == []
    assert found_in(config, "backend.setup_command") == text


@pytest.mark.parametrize(
    "escapes", [r"\ud83c", r"\udf89", r"\udf89\ud83c", r"\ud83c x", r"\ud83c\ud83c\udf89"]
)
@pytest.mark.parametrize(
    "place",
    ['"worker_id": "X"', '"X": 1', '"backend": {"direct": {"environment": [{"value": "X"}]}}'],
)
def test_half_a_character_is_refused_with_its_line(escapes: str, place: str) -> None:
    """K8: no encoder takes it."""
    with pytest.raises(ConfigError) as caught:
        parse_file("{\n" + place.replace("X", escapes) + "\n}", "f.yaml")
    half = r"half of a surrogate pair (\ud800 to \udfff) without its other half"
    assert str(caught.value) == f"f.yaml:2: this is not YAML: {half}"


@pytest.mark.parametrize(
    ("file", "flags", "problem"),
    [
        (
            "backend: {kubernetes: {}}",
            {"env": ("A=\udcff",)},
            "--env A: this is not UTF-8 (it is not shown here)",
        ),
        ("backend: {docker: {}}", {"env": ("RAW",)}, "--env RAW: this is not UTF-8 (it is not shown here)"),
        (
            "backend: {kubernetes: {environment: [{name: RAW}]}}",
            {},
            "f.yaml:1: backend.kubernetes.environment[0]: this is not UTF-8 (it is not shown here)",
        ),
        ("{}", {"volumes": ("/a\udcff:/b",)}, None),
        ("{}", {"idle_on_complete": "5\udcff"}, None),
        ("{}", {"worker_id": "a\udcff"}, None),
    ],
)
def test_bytes_that_are_no_text_are_refused(file: str, flags: dict[str, Any], problem: str | None) -> None:
    """K8: Python reads such bytes of the command line and the environment as halves (PEP 383)."""
    _, problems = joined(file, {"RAW": "\udcff"}, **flags)
    assert len(problems) == 1
    assert problem is None or problems == [problem]


def test_a_process_takes_any_bytes() -> None:
    config, problems = joined("backend: {direct: {}}", {"RAW": "\udcff"}, env=("RAW", "A=\udc80"))
    assert problems == []
    assert config.environment == {"RAW": Secret("\udcff"), "A": Secret("\udc80")}


def test_defaults_are_not_warned_about() -> None:
    config, problems = joined("{}")
    assert (problems, config.warnings) == ([], ())
    assert parse_file("{}", "f.yaml")[0] == FileConfig()
