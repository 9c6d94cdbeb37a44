"""The alert rules: promtool checks them, and each fires for its own reason and for no other."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from oz_agent_worker.controlplane.rules.outcome_mapping import outcome_of
from oz_agent_worker.protocol.failure_reasons import FailureReason, Fault
from oz_agent_worker.protocol.frames import TaskFailed
from scripts.docs.tables import alert_table
from tests.chart.helm_cli import ROOT, WORKER, Helm, HelmError
from tests.chart.objects import pick
from tests.observability.prometheus import Programs, PrometheusError
from tests.observability.provisioned import provisioned_prometheus
from tests.observability.rules import ALERTS_FILE, alert_rules
from tests.observability.scenarios import SCENARIOS, Scenario

ALERTS = {rule["alert"]: rule for rule in alert_rules()}
RUNBOOK = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
SEVERITIES = {"critical", "warning", "info"}
#: What a description may name: the labels that every alert of a worker has, and the watches' own.
NAMED = {"worker_id", "resource"}


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Prometheus' own programs."""
    return provisioned_prometheus()


def minutes(duration: str) -> int:
    """A duration of the rules in minutes."""
    return int(duration[:-1]) * {"m": 1, "h": 60}[duration[-1]]


def test_promtool_accepts_the_file(programs: Programs) -> None:
    assert f"{len(ALERTS)} rules found" in programs.tool("check", "rules", ALERTS_FILE)


def test_promtool_refuses_a_wrong_file(programs: Programs, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(ALERTS_FILE.read_text().replace("absent(", "absent(("))
    with pytest.raises(PrometheusError, match="OzWorkerAbsent"):
        programs.tool("check", "rules", wrong)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_whoever_is_woken_needs(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/alerts.md#{alert.lower()}")
    texts = rule["annotations"]["summary"] + rule["annotations"]["description"]
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= NAMED
    assert "worker_id" in rule["annotations"]["summary"]


@pytest.mark.parametrize("alert", ALERTS)
def test_what_healed_has_left_the_window_before_the_alert_fires(alert: str) -> None:
    rule = ALERTS[alert]
    windows = [minutes(window) for window in re.findall(r"\[(\w+)\]", rule["expr"])]
    assert all(minutes(rule["for"]) > window for window in windows)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_about_a_worker(alert: str) -> None:
    """The chart narrows the name down, which a selector of its own would break."""
    assert ALERTS[alert]["expr"].count("oz_worker_info") == 1
    assert "oz_worker_info{" not in ALERTS[alert]["expr"]


def test_failures_of_the_tasks_own_are_not_the_infrastructures() -> None:
    excluded = re.search(r'reason!~"([a-z_|]+)"', ALERTS["OzWorkerInfrastructureFailures"]["expr"])
    assert excluded is not None
    names = set(excluded[1].split("|"))
    reasons = {reason for reason in FailureReason if reason.value in names}
    assert len(reasons) == len(names)
    reports = {reason: TaskFailed(task_id="", message="", failure_reason=reason) for reason in reasons}
    errors = {reason for reason, report in reports.items() if outcome_of(report).state == "ERROR"}
    # A shutdown ends tasks of the direct backend as it is meant to, and says nothing of its health.
    assert errors <= {FailureReason.GRACEFUL_SHUTDOWN}


def test_a_failure_of_the_agent_s_own_is_excluded_or_the_operator_s_command() -> None:
    excluded = re.search(r'reason!~"([a-z_|]+)"', ALERTS["OzWorkerInfrastructureFailures"]["expr"])
    assert excluded is not None
    agents = {reason.value for reason in FailureReason if reason.fault is Fault.AGENT}
    # The set-up, the agent's program and the teardown are the operator's: the alert is about them too.
    operators = {"setup_command", "agent_invocation", "teardown_command"}
    assert agents - set(excluded[1].split("|")) == operators


# ------------------------------------------------------------------------------ what makes them fire


def rule_test(scenario: Scenario) -> dict[str, Any]:
    """A scenario as promtool takes it: which alerts fire, of which workers, and no others."""
    firing = [
        {
            "labels": f'{{alertname="{alert}", worker_id="{worker}"}}'
            if worker
            else f'{{alertname="{alert}"}}',
            "value": 1,
        }
        for alert, worker in sorted(scenario.fires)
    ]
    expression = 'max by (alertname, worker_id) (ALERTS{alertstate="firing"})'
    return {
        "name": scenario.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in scenario.series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": scenario.at, "exp_samples": firing}],
    }


def run(programs: Programs, folder: Path, rules: Path, *scenarios: Scenario) -> str:
    """Run scenarios; promtool's error says of each by its name what fired in its place."""
    file = folder / "test.json"
    tests = [rule_test(scenario) for scenario in scenarios]
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    return programs.tool("test", "rules", file)


def test_what_fires(programs: Programs, tmp_path: Path) -> None:
    assert "SUCCESS" in run(programs, tmp_path, ALERTS_FILE, *SCENARIOS)


def test_each_alert_fires_in_one_scenario_and_comes_close_to_it_in_another() -> None:
    assert {alert for scenario in SCENARIOS for alert, _ in scenario.fires} == ALERTS.keys()
    assert {scenario.spares for scenario in SCENARIOS} - {None} == ALERTS.keys()
    assert all(scenario.spares not in {alert for alert, _ in scenario.fires} for scenario in SCENARIOS)


def test_a_scenario_that_is_not_so_is_noticed(programs: Programs, tmp_path: Path) -> None:
    away = next(scenario for scenario in SCENARIOS if scenario.name == "the control plane is away")
    with pytest.raises(PrometheusError, match="OzWorkerDisconnected"):
        run(programs, tmp_path, ALERTS_FILE, Scenario("", away.series, away.at))


def test_the_texts_of_an_alert_are_filled_in(programs: Programs, tmp_path: Path) -> None:
    stuck = next(scenario for scenario in SCENARIOS if scenario.name == "a result is not accepted")
    rule = ALERTS["OzWorkerReportsStuck"]
    labels = {"severity": "critical", "worker_id": "w", "job": "oz", "instance": "a"}
    annotations = {
        "summary": "Results of worker w do not reach the control plane.",
        "description": "The worker is connected, and its oldest result has waited for 40m 0s.",
        "runbook_url": rule["annotations"]["runbook_url"],
    }
    case = rule_test(stuck)
    del case["promql_expr_test"]
    alert = {"exp_labels": labels, "exp_annotations": annotations}
    case["alert_rule_test"] = [{"alertname": rule["alert"], "eval_time": "40m", "exp_alerts": [alert]}]
    file = tmp_path / "test.json"
    file.write_text(
        json.dumps({"rule_files": [str(ALERTS_FILE)], "evaluation_interval": "1m", "tests": [case]})
    )
    assert "SUCCESS" in programs.tool("test", "rules", file)


# -------------------------------------------------------------------------------- what the chart makes


def rendered(helm: Helm, case: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The PrometheusRule of a case."""
    return pick(helm.template(WORKER, WORKER / f"ci/{case}-values.yaml", values=values), "PrometheusRule")


@pytest.mark.parametrize("case", ["everything", "monitoring"])
def test_promtool_accepts_what_the_chart_makes(
    helm: Helm, programs: Programs, tmp_path: Path, case: str
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rendered(helm, case)["spec"]))
    assert "SUCCESS" in programs.tool("check", "rules", file)


def test_by_default_the_chart_makes_the_files_rules_about_its_own_worker(helm: Helm) -> None:
    made = rendered(helm, "everything")["spec"]
    expected = yaml.safe_load(ALERTS_FILE.read_text())
    for group in expected["groups"]:
        for rule in group["rules"]:
            rule["expr"] = rule["expr"].replace("oz_worker_info", 'oz_worker_info{worker_id="my-worker"}')
    assert made == expected


def test_alerts_ignore_the_series_of_another_worker(helm: Helm, programs: Programs, tmp_path: Path) -> None:
    away = next(scenario for scenario in SCENARIOS if scenario.name == "the control plane is away")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rendered(helm, "everything")["spec"]))
    absent = frozenset({("OzWorkerAbsent", "my-worker")})
    assert "SUCCESS" in run(programs, tmp_path, file, Scenario("", away.series, away.at, fires=absent))


def test_what_operators_tune(helm: Helm) -> None:
    rule = rendered(helm, "monitoring")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    made = {found["alert"]: found for group in rule["spec"]["groups"] for found in group["rules"]}
    assert ALERTS.keys() - made.keys() == {"OzWorkerEventLoopLagging"}
    assert "oz-agent-worker.process" not in [group["name"] for group in rule["spec"]["groups"]]
    assert made["OzWorkerAbsent"]["labels"] == {"severity": "page", "team": "agents"}
    assert made["OzWorkerReportsStuck"]["expr"].endswith(" > 1800")
    assert made["OzWorkerReportsStuck"]["for"] == "10m"
    assert made["OzWorkerInfrastructureFailures"]["expr"].endswith(" > 0.05")
    page = made["OzWorkerAbsent"]["annotations"]["runbook_url"]
    assert page == "https://runbooks.example.com/oz-agent-worker.html#ozworkerabsent"


@pytest.mark.parametrize(
    ("alerts", "error_text"),
    [
        ({"OzWorkerGone": {"for": "1m"}}, "alerts.OzWorkerGone: there is no such alert"),
        ({"OzWorkerAbsent": {"threshold": 1}}, "alerts.OzWorkerAbsent.threshold: this alert has none"),
        ({"OzWorkerDisconnected": {"threshold": 1}}, "alerts.OzWorkerDisconnected.threshold: this alert has"),
    ],
)
def test_what_cannot_be_tuned_is_named(helm: Helm, alerts: dict[str, Any], error_text: str) -> None:
    with pytest.raises(HelmError, match=re.escape(f"metrics.prometheusRule.{error_text}")):
        rendered(helm, "monitoring", {"metrics.prometheusRule.alerts": alerts})


# ------------------------------------------------------------------------------------- the runbook


def test_the_runbook_has_an_entry_for_each_alert_in_their_order() -> None:
    entries = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert entries == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_entry_says_what_to_do(alert: str) -> None:
    entry = RUNBOOK.partition(f"### {alert}\n")[2].partition("\n##")[0]
    assert re.findall(r"^\*\*(.*?)\*\*", entry, re.MULTILINE) == ["Meaning.", "Impact.", "Look at.", "Do."]


def test_the_table_is_written_from_the_rules() -> None:
    assert alert_table() in RUNBOOK, "run `make docs`"
    assert "| [`OzWorkerReportsStuck`](#ozworkerreportsstuck) | critical | 5m | 900 |\n" in RUNBOOK
    assert "| [`OzWorkerDisconnected`](#ozworkerdisconnected) | critical | 10m |  |\n" in RUNBOOK
