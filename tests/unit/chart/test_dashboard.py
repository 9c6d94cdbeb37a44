"""The dashboard, and all queries of it and of the alert rules: a real Prometheus answers each.

Its storage has every metric of the catalogue, with every label, and nothing else.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from oz_agent_worker.worker.telemetry.catalogue import METRICS
from scripts.dashboard import dashboard_json
from tests.chart.helm_cli import WORKER, Helm
from tests.chart.objects import pick
from tests.observability.catalogued import END, START, STEP, labels_of, metric_of, write_block
from tests.observability.expressions import Selector, grouping, metric_names, selectors
from tests.observability.picture.answers import Answer, Span, answers, interpolated
from tests.observability.prometheus import Prometheus, PrometheusError, serving
from tests.observability.provisioned import provisioned_prometheus
from tests.observability.rules import DASHBOARD_FILE, alert_rules

DASHBOARD: dict[str, Any] = json.loads(DASHBOARD_FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULES = [rule["expr"] for rule in alert_rules()]
EXPRESSIONS = [*QUERIES, *RULES]
SPAN = Span(START + 300.0, float(END), 60.0, STEP * 4.0)
VARIABLES = {"worker_id": ".*", "__rate_interval": "2m", "__range": "25m"}
#: Labels of Prometheus itself, and the one that the join with ``oz_worker_info`` adds.
ALWAYS = {"job", "instance", "worker_id"}
WIDTH = 24


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with all that a worker may show."""
    folder = tmp_path_factory.mktemp("prometheus")
    programs = provisioned_prometheus()
    write_block(programs, folder)
    with serving(programs, folder, {}) as running:
        yield running


@pytest.fixture(scope="module")
def answered(prometheus: Prometheus) -> list[Answer]:
    """Every panel with what it would show."""
    return [found for found in answers(DASHBOARD, prometheus, SPAN) if found.panel["type"] != "row"]


# -------------------------------------------------------------------------------- expressions


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_what_there_is(expression: str) -> None:
    names = metric_names(expression)
    assert names
    metrics = {name: metric_of(name) for name in names}
    assert None not in metrics.values()
    for selector in selectors(expression):
        metric = metrics[selector.metric]
        assert metric is not None
        labels = labels_of(metric)
        assert selector.label in labels, selector
        values = labels[selector.label]
        assert not values or selector.takes(values), selector
    every = {label for metric in metrics.values() if metric is not None for label in labels_of(metric)}
    assert grouping(expression) <= every | ALWAYS


def test_prometheus_parses_every_expression(prometheus: Prometheus) -> None:
    for expression in EXPRESSIONS:
        assert prometheus.formatted(interpolated(expression, VARIABLES))


def test_prometheus_refuses_what_is_no_expression(prometheus: Prometheus) -> None:
    with pytest.raises(PrometheusError, match="parse error"):
        prometheus.formatted("sum (oz_worker_connected")


def test_every_query_of_a_panel_has_an_answer(answered: list[Answer]) -> None:
    for answer in answered:
        assert answer.series, answer.panel["title"]
        for target in answer.panel["targets"]:
            variables = {name[2:-2].strip() for name in re.findall(r"\{\{.*?\}\}", target["legendFormat"])}
            shown = [name for name, series in answer.series if variables <= series.labels.keys()]
            assert shown, (answer.panel["title"], target["expr"])


def test_one_query_is_not_answered_by_its_neighbour(prometheus: Prometheus) -> None:
    for expression in QUERIES:
        assert prometheus.query(interpolated(expression, VARIABLES), END), expression


def test_the_variable_picks_workers(prometheus: Prometheus) -> None:
    (variable,) = (one for one in DASHBOARD["templating"]["list"] if one["name"] == "worker_id")
    label_values = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
    assert label_values is not None
    assert prometheus.label_values(label_values[2], label_values[1]) == ["v", "w"]
    one = VARIABLES | {"worker_id": "w"}
    for expression in QUERIES:
        for series in prometheus.query(interpolated(expression, one), END):
            assert series.labels.get("worker_id", "w") == "w", expression
    (active,) = (query for query in QUERIES if query.startswith("sum (oz_worker_tasks_active *"))
    both, alone = (prometheus.query(interpolated(active, v), END)[0].points[0][1] for v in (VARIABLES, one))
    assert both == 2 * alone


def test_a_query_names_no_interval_of_its_own() -> None:
    for expression in QUERIES:
        assert set(re.findall(r"\[(.*?)\]", expression)) <= {"$__rate_interval", "$__range"}
        assert not re.search(r"(rate|increase)\([^[]*\$__interval", expression)


@pytest.mark.parametrize(
    ("operator", "value", "taken"),
    [
        ("=", "a", True),
        ("=", "c", False),
        ("!=", "b", True),
        ("!=", "c", False),
        ("=~", "a|b", True),
        ("=~", "a|c", False),
        ("!~", "c", False),
    ],
)
def test_a_selector_takes_values_that_there_are(operator: str, value: str, taken: bool) -> None:
    assert Selector("m", "l", operator, value).takes(("a", "b")) is taken


# ------------------------------------------------------------------------------ the dashboard itself


def test_the_file_is_written_from_the_panels() -> None:
    assert DASHBOARD_FILE.read_text(encoding="utf-8") == dashboard_json(), "run `make docs`"


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < WIDTH
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {metric_of(name) for query in QUERIES for name in metric_names(query)}
    assert [metric.name for metric in METRICS if metric not in shown] == []


def test_the_chart_hands_the_file_to_grafana(helm: Helm) -> None:
    objects = helm.template(WORKER, WORKER / "ci/monitoring-values.yaml")
    (made,) = (
        found
        for found in objects
        if found["kind"] == "ConfigMap" and "-dashboard" in found["metadata"]["name"]
    )
    assert json.loads(made["data"]["oz-agent-worker.json"]) == DASHBOARD
    assert made["metadata"]["labels"]["grafana_dashboard"] == "agents"
    assert made["metadata"]["annotations"] == {"example.com/owner": "agents", "grafana_folder": "Agents"}


def test_the_sidecars_own_label_is_the_default(helm: Helm) -> None:
    made = pick(
        helm.template(WORKER, WORKER / "ci/everything-values.yaml"), "ConfigMap", "rel-worker-dashboard"
    )
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "annotations" not in made["metadata"]


@pytest.mark.parametrize(
    "values",
    [
        {"metrics.grafanaDashboard.create": True, "metrics.prometheusRule.create": True},
        {"metrics.enabled": True},
    ],
)
def test_without_metrics_or_asking_there_is_neither(helm: Helm, values: dict[str, Any]) -> None:
    objects = helm.template(WORKER, WORKER / "ci/minimal-values.yaml", values=values)
    assert "PrometheusRule" not in {found["kind"] for found in objects}
    assert not [found for found in objects if found["metadata"]["name"].endswith("-dashboard")]
