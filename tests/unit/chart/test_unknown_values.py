"""A value that the chart does not have is an error that names it, the nearest one, and the way out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm_cli import CONTROL_PLANE, ROOT, WORKER, Helm, HelmError

NEEDED = {"worker.workerId": "w", "image.tag": "v1"}

UNKNOWN: tuple[tuple[str, Any, str], ...] = (
    ("worker.maxConcurentTasks", 2, "did you mean worker.maxConcurrentTasks?"),
    ("worker.maxconcurrenttasks", 2, "did you mean worker.maxConcurrentTasks?"),
    ("worker.health.prot", 1, "did you mean worker.health.port?"),
    ("worker.annotations", {}, "did you mean worker.podAnnotations?"),
    ("worker.annotation", {}, "did you mean worker.podAnnotations?"),
    ("image.tags", "v1", "did you mean image.tag?"),
    ("warp.apiKeySecret.valueFrom", "x", "did you mean warp.apiKeySecret.value?"),
    ("kubernetesBackend.activeDeadlineSecond", 1, "did you mean kubernetesBackend.activeDeadlineSeconds?"),
    ("kubernetesBackend.setup_command", "x", "did you mean kubernetesBackend.setupCommand?"),
    ("metrics.podMonitor.labels", {}, "did you mean metrics.podMonitor.additionalLabels or "),
    ("metrics.grafanaDashboard.enabled", True, "known here are annotations, create, folder, labels"),
    # Known, but elsewhere: a section that is indented wrongly.
    ("workerId", "w", "did you mean worker or worker.workerId?"),
    ("metrics.setupCommand", "x", "did you mean kubernetesBackend.setupCommand?"),
    ("worker.podTemplate", {}, "did you mean kubernetesBackend.podTemplate?"),
    ("kubernetesBackend.cleanup", True, "did you mean worker.cleanup?"),
    # Like nothing here.
    ("worker.replicas", 2, "known here are affinity, cleanup, deploymentAnnotations, "),
    ("replicaCount", 2, "known here are enabled, fullnameOverride, global, "),
)


def refusal(helm: Helm, chart: Path, values: dict[str, Any]) -> str:
    """What Helm says of values that it refuses."""
    with pytest.raises(HelmError) as refused:
        helm.template(chart, values=values)
    return str(refused.value)


@pytest.mark.parametrize(("path", "value", "hint"), UNKNOWN, ids=[path for path, _, _ in UNKNOWN])
def test_an_unknown_value_is_named_with_the_nearest_one(helm: Helm, path: str, value: Any, hint: str) -> None:
    assert f"\n  {path}: {hint}" in refusal(helm, WORKER, {**NEEDED, path: value})


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("worker.extraEnv", [{"name": "A", "valuefrom": {}}],
         "worker.extraEnv[0].valuefrom: did you mean worker.extraEnv[0].valueFrom?"),
        ("image.pullSecrets", [{"name": "a", "namespace": "b"}],
         "image.pullSecrets[0].namespace: did you mean kubernetesBackend.namespace? known here are name"),
        ("metrics.prometheusRule.alerts", {"OzWorkerAbsent": {"after": "1m"}},
         "metrics.prometheusRule.alerts.OzWorkerAbsent.after: known here are enabled, for, severity"),
    ],
)  # fmt: skip
def test_so_is_one_within_an_entry(helm: Helm, path: str, value: Any, line: str) -> None:
    assert f"\n  {line}" in refusal(helm, WORKER, {**NEEDED, path: value})


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("controlPlane.maxStart", "did you mean controlPlane.maxStarts?"),
        ("networkPolicy.enabled", "known here are clients, create, database, "),
        ("database.url", "did you mean database.urlSecret?"),
        ("replicas", "known here are apiKeySecret, controlPlane, "),
    ],
)
def test_so_is_one_of_the_control_plane(helm: Helm, path: str, hint: str) -> None:
    assert f"\n  {path}: {hint}" in refusal(helm, CONTROL_PLANE, {"image.tag": "v1", path: "x"})


def test_all_are_named_at_once_and_the_arguments_without_them_work(helm: Helm, tmp_path: Path) -> None:
    stale = {
        "image": {"tag": "v1", "registry": "x"},
        "worker": {"workerId": "w", "replicas": 2, "app.kubernetes.io/name": "x"},
        "autoscaling": {"enabled": True},
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(stale))
    with pytest.raises(HelmError) as refused:
        helm.template(WORKER, file)
    message = str(refused.value)
    for path in ("image.registry", "worker.replicas", "worker.app.kubernetes.io/name", "autoscaling"):
        assert f"\n  {path}: " in message
    assert "A misspelt value would have no effect" in message
    options = re.findall(r"--set (\S+)", message)
    assert len(options) == 4
    objects = helm.template(WORKER, file, options=tuple(f"--set={option}" for option in options))
    assert objects == helm.template(WORKER, WORKER / "ci/minimal-values.yaml",
                                    values={"image.tag": "v1", "worker.workerId": "w"})  # fmt: skip


def test_lint_finds_it_too(helm: Helm) -> None:
    """``helm lint`` counts the message alone as information."""
    values = ("--set=worker.workerId=w", "--set=image.tag=v1", "--set=worker.replicas=2")
    with pytest.raises(HelmError, match=r"worker\.replicas: known here are"):
        helm.run("lint", WORKER, *values)


def test_the_document_shows_the_message(helm: Helm) -> None:
    text = (ROOT / "docs/chart.md").read_text(encoding="utf-8")
    shown = text.partition("```text\n")[2].partition("```")[0]
    given = {**NEEDED, "worker.maxConcurentTasks": 1, "image.registry": "x"}
    assert sorted(shown.splitlines()[:-1]) == sorted(
        refusal(helm, WORKER, given).partition("): ")[2].strip().splitlines()[:4]
    )
