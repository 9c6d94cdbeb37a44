"""A value that is null, as a section whose entries are commented out is, counts as its default.

Helm drops such keys before it looks at the schema, so that templates meet nothing in their place.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from scripts.chart_values.accepted import may_be_null
from scripts.chart_values.source import Value, read_source, values
from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm, HelmError

#: Values with which all that can be made is made, so that nearly every value is used.
EVERYTHING: Final[Mapping[Path, dict[str, Any]]] = {
    WORKER: {
        "image": {"tag": "v1"},
        "warp": {"apiKeySecret": {"create": True, "value": "a-key"}},
        "worker": {"workerId": "w", "health": {"enabled": True}},
        "kubernetesBackend": {"namespace": "oz-tasks"},
        "metrics": {
            "enabled": True,
            "podMonitor": {"create": True},
            "prometheusRule": {"create": True},
            "grafanaDashboard": {"create": True},
        },
        "networkPolicy": {"create": True},
        "podDisruptionBudget": {"create": True},
    },
    CONTROL_PLANE: {
        "image": {"tag": "v1"},
        "apiKeySecret": {"create": True, "value": "0" * 32},
        "ingress": {"create": True},
        "networkPolicy": {"create": True},
    },
}


class Emptied(NamedTuple):
    """A value or a section of a chart that is set to null."""

    chart: Path
    value: Value

    @property
    def path(self) -> list[str]:
        """Its keys, from the outside in."""
        return self.value.path.split(".")


def _below(source: Mapping[str, Any], prefix: str = "") -> Iterator[Value]:
    for value in values(source, prefix):
        yield value
        if value.is_group:
            yield from _below(value.schema, f"{value.path}.")


def is_given(given: Any, path: list[str]) -> bool:
    """Whether values have something at a path, be it null."""
    for key in path:
        if not isinstance(given, Mapping) or key not in given:
            return False
        given = given[key]
    return True


ALL: Final = [
    Emptied(chart, value)
    for chart in EVERYTHING
    for value in _below(read_source(chart / "values.schema.yaml"))
]
COUNT_AS_DEFAULTS: Final = [emptied for emptied in ALL if not may_be_null(emptied.value.schema)]
#: Values that ``EVERYTHING`` leaves alone and that have no others below them: several can be null at
#: once, and none of them hides another.
UNGIVEN: Final = [
    emptied
    for emptied in COUNT_AS_DEFAULTS
    if not emptied.value.is_group and not is_given(EVERYTHING[emptied.chart], emptied.path)
]
OTHERS: Final = [emptied for emptied in COUNT_AS_DEFAULTS if emptied not in UNGIVEN]
SECTIONS: Final = sorted({(emptied.chart, emptied.path[0]) for emptied in UNGIVEN})
COUNT_AS_NOTHING: Final = [emptied for emptied in ALL if may_be_null(emptied.value.schema)]


def name(emptied: Emptied) -> str:
    """Name a case."""
    return f"{emptied.chart.name.removeprefix('oz-')}-{emptied.value.path}"


def without(given: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """The values without what is at ``path``, where they have it."""
    left = deepcopy(dict(given))
    at = left
    for key in path[:-1]:
        at = at.get(key, {})
    at.pop(path[-1], None)
    return left


def with_null(given: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """The values with null at ``path``."""
    changed = deepcopy(dict(given))
    at = changed
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = None
    return changed


def rendered(helm: Helm, chart: Path, given: Mapping[str, Any], folder: Path) -> list[dict[str, Any]] | str:
    """The objects, or the error where there are none."""
    # By its content, so that what many cases expect is rendered once.
    text = json.dumps(given)
    file = folder / f"{chart.name}-{hash(text)}.json"
    file.write_text(text)
    try:
        return helm.template(chart, file)
    except HelmError as error:
        return str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the values files are."""
    return tmp_path_factory.mktemp("values")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section[0].name}-{section[1]}")
def test_nulls_are_the_defaults(helm: Helm, folder: Path, section: tuple[Path, str]) -> None:
    """All values of a section at once; where that differs, each is looked at to name it."""
    chart, key = section
    given = EVERYTHING[chart]
    several = [emptied for emptied in UNGIVEN if (emptied.chart, emptied.path[0]) == section]
    expected, nulls = rendered(helm, chart, given, folder), given
    for emptied in several:
        nulls = with_null(nulls, emptied.path)
    if rendered(helm, chart, nulls, folder) != expected:
        alone = {name(e): rendered(helm, chart, with_null(given, e.path), folder) for e in several}
        assert {case for case, found in alone.items() if found != expected} == set()
        pytest.fail(f"no value of {key} by itself, but all together")


@pytest.mark.parametrize("emptied", OTHERS, ids=name)
def test_null_is_the_default(helm: Helm, folder: Path, emptied: Emptied) -> None:
    given = EVERYTHING[emptied.chart]
    expected = rendered(helm, emptied.chart, without(given, emptied.path), folder)
    found = rendered(helm, emptied.chart, with_null(given, emptied.path), folder)
    if isinstance(expected, str):
        assert re.search(rf"\b{re.escape(emptied.value.path)}(\.\w+)* is required", str(found))
    else:
        assert found == expected


@pytest.mark.parametrize("emptied", COUNT_AS_NOTHING, ids=name)
def test_null_is_nothing_where_the_value_says_so(helm: Helm, folder: Path, emptied: Emptied) -> None:
    given = EVERYTHING[emptied.chart]
    if emptied.value.path == "worker.livenessProbe":  # that of worker.health takes its place
        given = without(given, ["worker", "health"])
    found = rendered(helm, emptied.chart, with_null(given, emptied.path), folder)
    assert not isinstance(found, str), found
    if emptied.value.schema["default"] is not None:
        assert found != rendered(helm, emptied.chart, given, folder)
        assert "null" in emptied.value.description


def test_all_at_once(helm: Helm, folder: Path) -> None:
    required = {"image": {"tag": "v1"}, "worker": {"workerId": "w"}}
    nothing = {emptied.path[0]: None for emptied in ALL if emptied.chart == WORKER} | required
    assert rendered(helm, WORKER, nothing, folder) == rendered(helm, WORKER, required, folder)


def test_a_chart_that_has_grown_takes_the_values_of_an_older_release(helm: Helm, tmp_path: Path) -> None:
    """With ``helm upgrade --reuse-values`` the chart's own values.yaml does not count."""
    grown = tmp_path / WORKER.name
    shutil.copytree(WORKER, grown)
    older = yaml.safe_load((WORKER / "values.yaml").read_text())
    del older["networkPolicy"], older["podDisruptionBudget"], older["metrics"]["prometheusRule"]
    (grown / "values.yaml").write_text(yaml.safe_dump(older))
    given = {"image": {"tag": "v1"}, "worker": {"workerId": "w"}, "metrics": {"enabled": True}}
    assert rendered(helm, grown, given, tmp_path) == rendered(helm, WORKER, given, tmp_path)
