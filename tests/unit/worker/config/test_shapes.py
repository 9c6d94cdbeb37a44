import contextlib
import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.errors import ConfigError
from oz_agent_worker.worker.config import kubernetes_shapes, shapes
from oz_agent_worker.worker.config.dialect import Loader
from oz_agent_worker.worker.config.durations import parse_duration
from oz_agent_worker.worker.config.load import parse_file
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.shapes import EnvEntry, Shape


def _decode(shape: Shape[Any], text: str) -> tuple[Any, list[str]]:
    problems = Problems("f.yaml")
    node = yaml.compose(text, Loader=Loader)
    assert node is not None
    return shape.decode(node, "key", problems), problems.found


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
max_concurrent_tasks: few
idle_on_complete: soon
worker_id: twice
unknown: 1
backend:
  kubernetes:
    namespace: Upper
    default_image: "a b"
    image_pull_policy: Sometimes
    active_deadline_seconds: -1
    workspace_size_limit: 10GiB
    unschedulable_timeout: 30
    extra_labels: {a: "no spaces"}
    pod_template: [x]
    image_pull_secrets: x
    tolerations: [y]
    environment:
      - {name: A, values: b}
      - {value: b}
"""
    _, problems = parse_file(content, "f.yaml")
    assert problems.found == [
        "f.yaml:5: worker_id: this key is repeated",
        "f.yaml:1: worker_id: read a list, allowed is a string",
        "f.yaml:2: cleanup: read 'maybe', allowed is true or false",
        "f.yaml:3: max_concurrent_tasks: read 'few', allowed is a whole number",
        "f.yaml:4: idle_on_complete: read 'soon', allowed is a duration such as 45m or 0s",
        "f.yaml:6: unknown: unknown key `unknown`; known are backend, cleanup, idle_on_complete, "
        "max_concurrent_tasks, strict, worker_id",
        "f.yaml:9: backend.kubernetes.namespace: read 'Upper', "
        "allowed is a name of a-z, 0-9 and -, 63 characters at most",
        "f.yaml:10: backend.kubernetes.default_image: read 'a b', allowed is a string without white space",
        "f.yaml:11: backend.kubernetes.image_pull_policy: read 'Sometimes', "
        "allowed is one of Always, Never, IfNotPresent",
        "f.yaml:12: backend.kubernetes.active_deadline_seconds: read -1, "
        "allowed is a whole number, 0 or more",
        "f.yaml:13: backend.kubernetes.workspace_size_limit: read '10GiB', "
        "allowed is a Kubernetes quantity such as 10Gi or 500M",
        "f.yaml:14: backend.kubernetes.unschedulable_timeout: read 30, "
        "allowed is a duration such as 30s, 5m or 1h30m",
        "f.yaml:15: backend.kubernetes.extra_labels.a: read 'no spaces', "
        "allowed is a label value of a-z, A-Z, 0-9, -, _ and ., 63 at most",
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
    ("text", "problem"),
    [
        ("&p {self: *p}", "key.self: this contains itself, by an alias"),
        ("{a: &l [*l]}", "key.a[0]: this contains itself, by an alias"),
        (
            "{when: 2026-01-31}",
            "key.when: read '2026-01-31', which JSON does not have: quote it",
        ),
        ("{x: .nan}", "key.x: read '.nan', which JSON does not have: quote it"),
        ("{x: [-.inf]}", "key.x[0]: read '-.inf', which JSON does not have: quote it"),
        ("{x: !!binary aGk=}", "key.x: read 'aGk=', which JSON does not have: quote it"),
        ("{? [a] : b}", "key: a key is a list or a mapping, and allowed is a string"),
    ],
)
def test_a_raw_mapping_must_be_json(text: str, problem: str) -> None:
    assert _decode(shapes.raw_mapping(), text) == (None, [f"f.yaml:1: {problem}"])


def test_aliases_do_not_multiply_without_end() -> None:
    """P14: ten lines of aliases of aliases are 10,000,000,000 values."""
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    value, problems = _decode(shapes.raw_mapping(), "\n".join(lines))
    assert value is None
    (problem,) = problems
    assert re.fullmatch(
        r"f\.yaml:1: key\.[\w.\[\]]+: with its aliases this has more than 20000 values", problem
    )


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
        (".5s", 0.5),
        ("5.s", 5.0),
        ("+2m", 120.0),
        ("-5s", -5.0),
        ("-1h30m", -5400.0),
        ("+0", 0.0),
        ("3\u03bcs", 3e-6),
        ("290y", 290 * 31557600.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "30",
        "s",
        "5x",
        "--5s",
        "+-5s",
        "-",
        ".s",
        "1h30",
        "5 m x",
        "1e3s",
        "∞",
        "\u0663s",
        "5S",
        "00",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


@given(st.text(alphabet="+-0123456789.smhdun µ", max_size=12))
def test_a_duration_is_negative_with_a_minus_alone(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0.0 or text.strip().startswith("-")


@pytest.mark.parametrize("text", ["300y", "300000y", "9" * 400 + "s", "9" * 5000, f"{2**63 + 2000}ns"])
def test_a_duration_is_at_most_292_years(text: str) -> None:
    """P14: no clock and no timer takes them."""
    assert parse_duration(text) is None


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
    value, problems = _decode(kubernetes_shapes.quantity(), f"'{text}'")
    assert (value, problems) == (text, [])


@pytest.mark.parametrize(
    "text",
    ["10GB", "10K", "10ki", "1mi", "Gi", "-1Gi", "1 Gi", "1e", "1,5", "\u0661Gi", "1_000", "10gi", "1.2.3"],
)
def test_what_is_no_quantity(text: str) -> None:
    value, problems = _decode(kubernetes_shapes.quantity(), f"'{text}'")
    assert value is None
    assert problems == [
        f"f.yaml:1: key: read '{text}', allowed is a Kubernetes quantity such as 10Gi or 500M"
    ]


@pytest.mark.parametrize("text", ["a", "a-b", "1", "x" * 63])
def test_namespaces(text: str) -> None:
    assert _decode(kubernetes_shapes.dns_label(), text) == (text, [])


@pytest.mark.parametrize("text", ["A", "a_b", "-a", "a-", "a.b", "x" * 64, "ä"])
def test_what_is_no_namespace(text: str) -> None:
    assert _decode(kubernetes_shapes.dns_label(), f"'{text}'")[0] is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", "5"), ("1.10", "1.10"), ("0x1F", "0x1F"), ("2026-01-31", "2026-01-31"), ("'y'", "y")],
)
def test_a_number_counts_as_the_text_that_was_written(text: str, value: str) -> None:
    assert _decode(shapes.text(), text) == (value, [])


@pytest.mark.parametrize("text", ["[a]", "{a: b}", '"a\\0b"', "!!null x"])
def test_what_is_no_text(text: str) -> None:
    assert _decode(shapes.text(), text)[0] is None


@pytest.mark.parametrize("text", ["1", "0", "'true'", "[true]"])
def test_what_is_no_boolean(text: str) -> None:
    assert _decode(shapes.boolean(), text)[0] is None


@pytest.mark.parametrize("text", ["true", "1.5", "'1'", "null", "9" * 5000, "1:30", ".inf", "08x"])
def test_what_is_no_integer(text: str) -> None:
    value, problems = _decode(shapes.integer(minimum=0), text)
    assert value is None
    assert len(problems) == 1


HUGE = ["9" * 30, "9" * 5000, "0x" + "f" * 5000, "1e400", "-1e999"]
ODD = ["!!bool x", "!!int ''", "!!float ''", "!!timestamp x", "!!null x", "!!binary =", "!foo x", "!!str [a]"]
SHAPES: list[Shape[Any]] = [
    shapes.text(), shapes.word(), shapes.boolean(), shapes.integer(minimum=0), shapes.count(),
    shapes.duration(), shapes.humantime(), shapes.choice("a"), shapes.volume(), shapes.raw_mapping(),
    shapes.environment(), shapes.mapping_of(shapes.text()), shapes.list_of(shapes.text()),
    kubernetes_shapes.labels(), kubernetes_shapes.quantity(), kubernetes_shapes.resources(),
    kubernetes_shapes.pod_template(),
]  # fmt: skip


@pytest.mark.parametrize("value", [*HUGE, *ODD], ids=lambda value: value[:20])
@pytest.mark.parametrize("around", ["{}", "[{}]", "a: {}", "[{{name: A, value: {}}}]", "limits: {{cpu: {}}}"])
def test_no_odd_scalar_raises(value: str, around: str) -> None:
    for shape in SHAPES:
        decoded, problems = _decode(shape, around.format(value))
        assert decoded is not None or problems or "''" in value
        msgspec.json.encode(decoded)


@pytest.mark.parametrize("text", ["a", "/a:b", ":/b", "/a:/b:rx", "/a:/b:ro:", "/a:", "5", "[/a]"])
def test_what_is_no_volume(text: str) -> None:
    assert _decode(shapes.volume(), f"'{text}'")[0] is None


def test_what_was_read_is_shown_in_short() -> None:
    _, problems = _decode(shapes.boolean(), "x" * 500)
    assert problems == [f"f.yaml:1: key: read '{'x' * 76}..., allowed is true or false"]


@given(st.text(alphabet="a:-[]{}&*!|>%@`'\"#,? \n\t<0\0", max_size=30))
def test_no_text_raises_but_as_a_config_error(content: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_file(content, "f.yaml")


def test_the_tags_of_other_languages_make_no_objects() -> None:
    assert _decode(shapes.raw_mapping(), "{x: !!python/object/apply:os.getpid []}") == ({"x": []}, [])
    assert _decode(shapes.raw_mapping(), "{x: !!python/name:os.system ''}") == ({"x": ""}, [])
