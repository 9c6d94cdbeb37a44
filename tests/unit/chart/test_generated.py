"""What is written from values.schema.yaml is current, and that source is complete."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from oz_agent_worker import __version__
from oz_agent_worker.worker.config.durations import parse_duration
from oz_agent_worker.worker.config.schema import KubernetesConfig
from scripts.chart_values import CHARTS, chart_files
from scripts.chart_values.source import SourceError, read_source, values
from scripts.chart_values.written import reference, schema_json, template_yaml, values_yaml
from tests.chart.helm_cli import ROOT, WORKER


@pytest.mark.parametrize("folder", CHARTS)
def test_generated_files_are_current(folder: str) -> None:
    for path, content in chart_files(ROOT / folder).items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is not current: run `make docs`"


@pytest.mark.parametrize("folder", CHARTS)
def test_a_document_has_the_place_for_its_reference(folder: str) -> None:
    document = (ROOT / CHARTS[folder]).read_text(encoding="utf-8")
    assert "| `image.tag` |" in document


@pytest.mark.parametrize("folder", CHARTS)
def test_a_chart_has_the_versions_of_the_program(folder: str) -> None:
    chart = yaml.safe_load((ROOT / folder / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def defaults(source: Any) -> Any:
    """All defaults of a source, nested as in values.yaml."""
    return {
        value.name: defaults(value.schema) if value.is_group else value.schema["default"]
        for value in values(source)
    }


def test_values_yaml_holds_the_defaults() -> None:
    source = read_source(WORKER / "values.schema.yaml")
    assert yaml.safe_load(values_yaml(source)) == defaults(source)


def snake_case(name: str) -> str:
    """The key of the config file that a value of kubernetesBackend becomes."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("CLI", "Cli")).lower()


@pytest.fixture(scope="module")
def backend() -> dict[str, Any]:
    """The defaults of kubernetesBackend, by the config's keys."""
    values = yaml.safe_load((WORKER / "values.yaml").read_text())["kubernetesBackend"]
    return {snake_case(name): value for name, value in values.items()}


def test_every_key_of_the_kubernetes_backend_has_a_value(backend: dict[str, Any]) -> None:
    assert set(backend) == {field.name for field in dataclasses.fields(KubernetesConfig)}


def test_a_default_that_is_written_out_is_the_workers_own(backend: dict[str, Any]) -> None:
    own = KubernetesConfig()
    written = {name: value for name, value in backend.items() if value not in ("", {}, [], None)}
    del written["active_deadline_seconds"]  # the chart's own: nobody watches a task in a cluster
    assert written
    for name, value in written.items():
        seconds = parse_duration(value) if isinstance(value, str) else None
        assert getattr(own, name) == (value if seconds is None else seconds), name


SOURCE = """
type: object
definitions:
  port: {type: integer, minimum: 1, maximum: 65535}
  names: {type: array, items: {type: string}}
properties:
  single: {type: string, description: A single one., default: "true"}
  group:
    type: object
    description: A group.
    properties:
      port: {$ref: '#/definitions/port', description: A port., default: 80}
      deeper:
        type: object
        description: Deeper.
        properties:
          names: {$ref: '#/definitions/names', type: [array, "null"], description: a | b., default: []}
          kind: {enum: [x, y], description: A kind., default: x}
"""


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    """A small source."""
    (tmp_path / "source.yaml").write_text(SOURCE)
    return read_source(tmp_path / "source.yaml")


def test_values_yaml_has_meanings_and_defaults(source: dict[str, Any]) -> None:
    assert values_yaml(source).partition("\n")[2] == (
        '\n# A single one.\nsingle: "true"\n'
        "\n# A group.\ngroup:\n  # A port.\n  port: 80\n"
        "  # Deeper.\n  deeper:\n    # a | b.\n    names: []\n    # A kind.\n    kind: x\n"
    )


def test_the_reference_has_a_table_a_group(source: dict[str, Any]) -> None:
    assert reference(source) == (
        "### Names\n\n| value | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
        '| `single` | `"true"` | a string | A single one. |\n\n'
        "### group\n\nA group.\n\n| value | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
        "| `group.port` | `80` | 1 to 65535 | A port. |\n"
        "| `group.deeper.names` | `[]` | a list of: a string or null | a \\| b. |\n"
        '| `group.deeper.kind` | `"x"` | `x`, `y` | A kind. |\n'
    )


def test_the_schema_has_no_references_left(source: dict[str, Any]) -> None:
    schema = json.loads(schema_json(source))
    port = schema["properties"]["group"]["properties"]["port"]
    assert (port["minimum"], port["maximum"], port["description"]) == (1, 65535, "A port.")
    assert "$ref" not in schema_json(source)


def test_the_templates_have_kinds_and_defaults(source: dict[str, Any]) -> None:
    read = yaml.safe_load(template_yaml(source))
    assert read["values"]["single"] == {"kind": "text", "blank": True, "default": "true"}


def test_both_charts_bring_their_values_into_form_in_the_same_way() -> None:
    texts = {
        (ROOT / folder / "templates/_values.tpl").read_text().replace(ROOT.joinpath(folder).name, "NAME")
        for folder in CHARTS
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ("a: {type: string, default: x}", "a has no description"),
        ("a: {type: string, description: x}", "a has no default"),
        ("a: {type: object, description: x, properties: {b: {type: string, default: x}}}", "a.b has no desc"),
        ("a: {$ref: '#/definitions/none', description: x, default: 1}", "refers to nothing"),
    ],
)
def test_a_source_that_is_not_complete_is_refused(tmp_path: Path, properties: str, message: str) -> None:
    (tmp_path / "source.yaml").write_text(f"type: object\nproperties:\n  {properties}\n")
    with pytest.raises(SourceError, match=message):
        read_source(tmp_path / "source.yaml")
