"""``render`` with the task's variables in a Secret."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from oz_agent_worker.cli.main import root
from oz_agent_worker.errors import ConfigError

ASSIGNMENT = {
    "task_id": "run-1",
    "execution_id": "e-12345678",
    "task": {"id": "run-1"},
    "env_vars": {"GITHUB_TOKEN": "swordfish"},
}
SECRET = "oz-task-run-1-exec-12345678-env"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The arguments that name a config file and an assignment."""
    config, assignment = tmp_path / "worker.yaml", tmp_path / "assignment.json"
    config.write_text("backend: {kubernetes: {task_env_secret: true}}")
    assignment.write_text(json.dumps(ASSIGNMENT))
    return ["--config-file", str(config), "--assignment", str(assignment), "-e", "TOKEN=swordfish"]


def rendered(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["render", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_secret_follows_the_job_and_shows_no_value(files: list[str]) -> None:
    text = rendered(*files)
    assert "swordfish" not in text
    job, secret = yaml.safe_load_all(text)
    assert (job["kind"], secret["kind"]) == ("Job", "Secret")
    assert secret["metadata"]["name"] == SECRET
    assert secret["metadata"]["ownerReferences"][0]["name"] == job["metadata"]["name"]
    assert set(secret["data"].values()) == {"***"}
    references = [
        entry["valueFrom"]["secretKeyRef"]
        for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in entry
    ]
    assert {reference["name"] for reference in references} == {SECRET}
    assert {reference["key"] for reference in references} == set(secret["data"])
    assert {"GITHUB_TOKEN", "TOKEN", "TASK_ID"} <= set(secret["data"])


def test_as_json_they_are_one_list_with_the_same_content(files: list[str]) -> None:
    document = json.loads(rendered(*files, "-o", "json"))
    assert (document["apiVersion"], document["kind"]) == ("v1", "List")
    assert document["items"] == list(yaml.safe_load_all(rendered(*files)))


def test_it_is_the_same_text_each_time(files: list[str]) -> None:
    assert rendered(*files) == rendered(*files)


def test_without_the_key_there_is_the_job_alone(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("backend: {kubernetes: {}}")
    assert json.loads(rendered(*files, "-o", "json"))["kind"] == "Job"


def test_warnings_are_on_standard_error(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("backend: {kubernetes: {extra_annotations: {a: 1.0}}}")
    result = CliRunner().invoke(root, ["render", *files], catch_exceptions=False)
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["metadata"]["annotations"]["a"] == "1.0"
    warning = "backend.kubernetes.extra_annotations.a: programs read this in different ways"
    assert f"warning: {tmp_path}/worker.yaml:1: {warning}" in result.stderr
    refused = CliRunner().invoke(root, ["render", "--strict", *files])
    assert isinstance(refused.exception, ConfigError)
    assert warning in str(refused.exception)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pod_template: {containers: [{name: task, env: [{nam: A}]}]}",
         "pod_template.containers[task].env[0]: allowed is a mapping with a `name`"),
        ("pod_template: {volumes: [{name: sidecar-0-data}]}",
         "pod_template.volumes[sidecar-0-data]: the worker uses this name itself"),
        ("pod_template: {containers: [{name: task, resources: {limits: {cpu: x}}}]}",
         "pod_template.containers[task].resources.limits.cpu: read 'x'"),
    ],
)  # fmt: skip
def test_a_problem_of_the_template_has_its_line(
    files: list[str], tmp_path: Path, line: str, problem: str
) -> None:
    (tmp_path / "worker.yaml").write_text(f"backend:\n  kubernetes:\n    {line}\n")
    refused = CliRunner().invoke(root, ["render", *files])
    assert isinstance(refused.exception, ConfigError)
    assert f"\n  {tmp_path}/worker.yaml:3: backend.kubernetes.{problem}" in str(refused.exception)


def test_a_shorthand_that_contradicts_the_template_has_its_line(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(
        "backend:\n  kubernetes:\n    service_account: a\n    pod_template: {serviceAccountName: b}\n"
    )
    refused = CliRunner().invoke(root, ["render", *files])
    assert f"{tmp_path}/worker.yaml:3: backend.kubernetes.service_account and " in str(refused.exception)


def test_what_it_prints_has_each_value_of_the_file_as_it_was_written(
    files: list[str], tmp_path: Path
) -> None:
    """K7: from the file to the manifest, a number that is a text stays one."""
    values = ["72225e2", "y", "0o17", "1e3", "1_000", ".inf", "12:30", "20260131e5"]
    env = ", ".join(f"{{name: V{index}, value: {value}}}" for index, value in enumerate(values))
    (tmp_path / "worker.yaml").write_text(
        f"backend: {{kubernetes: {{pod_template: {{containers: [{{name: task, env: [{env}]}}]}}}}}}"
    )
    text = rendered(*files)
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    found = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert [found[f"V{index}"] for index in range(len(values))] == values
    for value in values:
        assert f'value: "{value}"' in text
