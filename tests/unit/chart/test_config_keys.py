"""Values that set a key of the config file come from the file's schema."""

import dataclasses
from typing import Any

import pytest

from oz_agent_worker.worker.config.schema import KubernetesConfig
from scripts.chart_values.config_keys import value_name
from scripts.chart_values.source import SourceError, read_source
from tests.chart.helm_cli import WORKER


@pytest.fixture
def source() -> dict[str, Any]:
    return read_source(WORKER / "values.schema.yaml")


def test_each_key_of_the_backend_is_a_value(source: dict[str, Any]) -> None:
    names = [value_name(key.name) for key in dataclasses.fields(KubernetesConfig)]
    assert list(source["properties"]["kubernetesBackend"]["properties"]) == names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "imagePullPolicy",
            {"enum": ["Always", "Never", "IfNotPresent"], "default": "IfNotPresent"},
        ),
        ("scaleUpTimeout", {"type": "string", "default": "10m"}),
        ("pullGrace", {"default": "60s"}),
        ("terminationGracePeriodSeconds", {"type": ["integer", "null"], "minimum": 0, "default": None}),
        ("tolerations", {"type": "array", "items": {"type": "object"}, "default": []}),
        ("nodeSelector", {"additionalProperties": {"type": "string"}, "default": {}}),
        ("serviceAccount", {"default": "", "description": "Shorthand for `podTemplate.serviceAccountName`."}),
        ("activeDeadlineSeconds", {"type": ["integer", "null"], "default": 28800}),
    ],
)
def test_a_value_has_the_type_the_default_and_the_meaning_of_its_key(
    source: dict[str, Any], name: str, expected: dict[str, Any]
) -> None:
    value = source["properties"]["kubernetesBackend"]["properties"][name]
    assert {key: value[key] for key in expected} == expected


def test_a_reference_to_an_unknown_key_is_an_error(tmp_path: Any) -> None:
    path = tmp_path / "values.schema.yaml"
    path.write_text("properties: {a: {$config: no_such_key}}")
    with pytest.raises(SourceError, match="no_such_key refers to nothing"):
        read_source(path)
    path.write_text("properties: {a: {$config: backend.direct, properties: {noSuchValue: {default: 1}}}}")
    with pytest.raises(SourceError, match="noSuchValue refers to nothing"):
        read_source(path)
