"""As the subchart of an operator's own chart."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm, HelmError
from tests.chart.looks import at, config, exists

DEPENDENCY = {"name": "oz-agent-worker", "condition": "oz-agent-worker.enabled"}
VALUES = {"image": {"tag": 20240101}, "worker": {"workerId": 5, "livenessProbe": None}, "metrics": None}


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A chart with the worker's as its dependency."""
    folder = tmp_path / "parent"
    (folder / "charts").mkdir(parents=True)
    shutil.copytree(WORKER, folder / "charts" / WORKER.name)
    version = yaml.safe_load((WORKER / "Chart.yaml").read_text())["version"]
    dependencies = [{**DEPENDENCY, "version": version}]
    chart = {"apiVersion": "v2", "name": "parent", "version": "0.1.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (folder / "values.yaml").write_text(yaml.safe_dump({"global": {"a": 1}, WORKER.name: VALUES}))
    return folder


def test_values_are_brought_into_form_there_too(helm: Helm, parent: Path) -> None:
    objects = helm.template(parent)
    assert config(objects).worker_id == "5"
    container = at("Deployment", "spec", "template", "spec", "containers", 0)(objects)
    assert container["image"].endswith(":20240101")
    assert "livenessProbe" not in container


def test_a_condition_may_be_called_enabled(helm: Helm, parent: Path) -> None:
    assert exists("Deployment")(helm.template(parent, values={"oz-agent-worker.enabled": True}))
    assert helm.template(parent, values={"oz-agent-worker.enabled": False}) == []


@pytest.mark.parametrize("chart", [WORKER, CONTROL_PLANE], ids=lambda chart: chart.name)
def test_what_no_condition_names_has_no_effect_and_is_an_error(helm: Helm, chart: Path) -> None:
    with pytest.raises(HelmError, match="enabled is false and has no effect here"):
        helm.template(chart, chart / "ci/minimal-values.yaml", values={"enabled": False})


def test_a_message_has_the_path_in_the_parents_values(helm: Helm, parent: Path) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(parent, values={"oz-agent-worker.worker.maxConcurentTasks": 1})
    message = str(refused.value)
    assert "worker.maxConcurentTasks: did you mean oz-agent-worker.worker.maxConcurrentTasks?" in message
    assert "--set oz-agent-worker.worker.maxConcurentTasks=null" in message
