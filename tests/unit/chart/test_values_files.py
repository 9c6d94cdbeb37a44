"""A values file that the public chart renders is rendered with the same effect, however it is written.

Each is rendered by the real Helm, and its config file is read by the worker's own loader.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.chart_values.accepted import template_schema
from scripts.chart_values.source import read_source
from tests.chart.helm_cli import CASES, CONTROL_PLANE, WORKER, Helm, HelmError
from tests.chart.looks import config, texts

from .values_rows import CONTROL_PLANE_ROWS, WORKER_ROWS, Row

NEEDED: Final = {WORKER: "image: {tag: v1}\nworker: {workerId: w}\n", CONTROL_PLANE: "image: {tag: v1}\n"}


#: Values that change whether an object is made, or how many are, and so what another row sees.
TAKES_AWAY: Final = ("existingConfigMap", "database", "rbac", "serviceAccount")


def together(chart: Path, rows: Sequence[Row]) -> list[tuple[Path, tuple[Row, ...]]]:
    """Put rows together that have no top-level value in common: one rendering shows all of them."""
    files: list[tuple[set[str], list[Row]]] = []
    alone = [row for row in rows if any(name in row.given for name in TAKES_AWAY)]
    for row in rows:
        keys = set(yaml.load(row.given, yaml.CSafeLoader))
        if row in alone:
            continue
        free = next((file for file in files if file[0].isdisjoint(keys)), None)
        if free is None:
            files.append((keys, [row]))
        else:
            free[0].update(keys)
            free[1].append(row)
    return [(chart, tuple(several)) for _, several in files] + [(chart, (row,)) for row in alone]


ROWS: Final = (*together(WORKER, WORKER_ROWS), *together(CONTROL_PLANE, CONTROL_PLANE_ROWS))

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def render(helm: Helm, tmp_path: Path) -> Render:
    """Renders a chart with a values file, after one with what has to be given."""

    def rendered(chart: Path, text: str, **options: Any) -> list[dict[str, Any]]:
        needed, file = tmp_path / "needed.yaml", tmp_path / f"values-{len(list(tmp_path.iterdir()))}.yaml"
        needed.write_text(NEEDED[chart], encoding="utf-8")
        file.write_text(text, encoding="utf-8")
        return helm.template(chart, needed, file, **options)

    return rendered


def assert_texts_are_texts(objects: list[dict[str, Any]]) -> None:
    """Where Kubernetes wants a text there is one."""
    wrong = [(found["kind"], path, value) for found in objects for path, value in texts(found)
             if not isinstance(value, str | None)]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize(
    ("chart", "rows"), ROWS, ids=[f"{chart.name}-{rows[0].given}" for chart, rows in ROWS]
)
def test_a_values_file_means_the_same_as_for_the_public_chart(
    render: Render, chart: Path, rows: tuple[Row, ...]
) -> None:
    objects = render(chart, "\n".join(row.given for row in rows))
    wrong = [
        f"{row.given}: {found!r} and not {row.expected!r}; the public chart has {row.public}"
        for row in rows
        if (found := row.look(objects)) != row.expected
    ]
    assert wrong == []
    assert_texts_are_texts(objects)


@pytest.mark.parametrize("name", ["123", "1e3", "true", "0x1f", "null"])
@pytest.mark.parametrize("chart", [WORKER, CONTROL_PLANE], ids=lambda chart: chart.name)
def test_release_and_namespace_may_look_like_numbers(render: Render, chart: Path, name: str) -> None:
    objects = render(chart, "networkPolicy: {create: true}", release=name, namespace=name)
    assert_texts_are_texts(objects)
    assert {found["metadata"]["namespace"] for found in objects} == {name}
    assert {found["metadata"]["labels"]["app.kubernetes.io/instance"] for found in objects} == {name}


@pytest.mark.parametrize("number", [9007199254740993, 12345678901234567890, -9007199254740993])
def test_a_number_whose_digits_helm_loses_is_to_be_quoted(render: Render, number: int) -> None:
    with pytest.raises(HelmError, match=r"worker\.workerId is a number so large that .* put it in quotes"):
        render(WORKER, f"worker: {{workerId: {number}}}")
    objects = render(WORKER, f"worker: {{workerId: '{number}'}}")
    assert config(objects).worker_id == str(number)


def test_a_secret_that_is_too_long_a_number_is_not_shown(render: Render) -> None:
    with pytest.raises(HelmError, match=r"warp\.apiKeySecret\.value is a number") as refused:
        render(WORKER, "warp: {apiKeySecret: {create: true, value: 1234567890123456789}}")
    assert "12345" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ('worker: {extraEnv: [{name: A, value: "a\\x7fb"}]}', "worker.extraEnv[0].value"),
        ('kubernetesBackend: {setupCommand: "a\\x85b"}', "kubernetesBackend.setupCommand"),
        ('kubernetesBackend: {setupCommand: "a\\u2028b"}', "kubernetesBackend.setupCommand"),
        ('kubernetesBackend: {podTemplate: {a: "\\x9f"}}', "kubernetesBackend.podTemplate"),
        ('kubernetesBackend: {podTemplate: {a: "\\u2029"}}', "kubernetesBackend.podTemplate"),
    ],
)
def test_what_helm_would_lose_is_refused(render: Render, given: str, path: str) -> None:
    """K7: with one such character ``toYaml`` gives a space, or an empty text for the whole config."""
    with pytest.raises(HelmError, match=rf"{re.escape(path)} has a character that Helm cannot write"):
        render(WORKER, given)


def test_an_argument_of_set_is_what_it_looks_like(render: Render) -> None:
    options = ("--set=image.tag=20240101", "--set=worker.workerId=1.10", "--set=metrics.port=9000")
    objects = render(WORKER, "metrics: {enabled: true}", options=options)
    assert config(objects).worker_id == "1.10"
    assert ":20240101" in str(objects)


# --------------------------------------------------------------------- any value, in another form


KeyPath = tuple[str | int, ...]


def leaves(schema: Any, value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Each scalar of a values file whose kind the chart knows, with its path and that kind."""
    kind = schema["kind"]
    if kind == "section" and isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(schema["values"][name], below, (*path, name))
    elif kind == "map" and isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(schema["of"], below, (*path, name))
    elif kind == "list" and isinstance(value, list):
        for index, below in enumerate(value):
            yield from leaves(schema["of"], below, (*path, index))
    elif value is not None and not isinstance(value, dict | list) and kind != "any":
        yield path, "text" if kind == "section" else kind


def restated(value: Any) -> Any:
    """A scalar in its other form: a number or boolean as text, the text of one as what it says."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, bool | int | float) and json.dumps(read) == value else value


def changed(values: Any, path: KeyPath) -> None:
    """Restate the scalar at a path."""
    for part in path[:-1]:
        values = values[part]
    values[path[-1]] = restated(values[path[-1]])


SCHEMAS: Final = {
    chart: template_schema(read_source(chart / "values.schema.yaml")) for chart in (WORKER, CONTROL_PLANE)
}


def test_the_property_has_leaves_of_every_kind() -> None:
    kinds = {
        kind
        for case in CASES
        for _, kind in leaves(SCHEMAS[case.parents[1]], yaml.safe_load(case.read_text(encoding="utf-8")))
    }
    assert kinds == {"text", "integer", "boolean"}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(case=st.sampled_from(CASES), data=st.data())
def test_a_value_in_another_form_is_the_same_value(helm: Helm, case: Path, data: st.DataObject) -> None:
    text = case.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    paths = [path for path, _ in leaves(SCHEMAS[case.parents[1]], values)]
    for path in data.draw(st.lists(st.sampled_from(paths), unique=True), label="restated"):
        changed(values, path)
    file = helm.home.parent / "restated.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    printed = helm.run("template", "rel", case.parents[1], "--namespace=agents", f"--values={file}")
    assert list(filter(None, yaml.load_all(printed, yaml.CSafeLoader))) == helm.template(
        case.parents[1], case
    )
