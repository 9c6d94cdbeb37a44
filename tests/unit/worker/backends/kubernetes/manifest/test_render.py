"""A manifest as text: stable, readable, and the same data again."""

import json

import yaml

from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.render import render_job, render_manifests
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.unit.worker.backends.kubernetes.samples import task_spec

JOB = plan_job(task_spec(), KubernetesConfig(teardown_command="a\nb"), worker_id="w", cleanup=True).job


def test_the_fields_are_in_the_order_of_kubernetes() -> None:
    lines = render_job(JOB, "yaml").splitlines()
    top = [line.split(":")[0] for line in lines if line[:1].isalpha()]
    assert top == ["apiVersion", "kind", "metadata", "spec"]
    assert lines[2:4] == ["metadata:", "  name: oz-task-7b3a1c2e-run-exec-a2b3c4d5"]


def test_the_order_in_which_a_manifest_was_put_together_does_not_show() -> None:
    backwards = dict(reversed([(k, v) for k, v in JOB.items()]))
    for fmt in ("yaml", "json"):
        assert render_job(backwards, fmt) == render_job(JOB, fmt)


def test_scripts_are_literal_blocks_and_no_line_is_folded() -> None:
    text = render_job({"command": ["sh", "-c", "set -eu\necho hi\n"], "args": ["word " * 60 + "end"]}, "yaml")
    assert "- |\n  set -eu\n  echo hi\n" in text
    assert "word " * 60 + "end\n" in text


def test_yaml_keeps_strings_strings_and_writes_no_anchors() -> None:
    shared = {"limit": "1"}
    data = {"spec": {"a": "yes", "b": "1e3", "c": "", "d": "~", "e": "é\U0001f600", "f": shared, "g": shared}}
    text = render_job(data, "yaml")
    assert yaml.safe_load(text) == data
    assert "&" not in text


def test_both_formats_are_the_same_data() -> None:
    assert json.loads(render_job(JOB, "json")) == yaml.safe_load(render_job(JOB, "yaml")) == JOB
    assert render_job(JOB, "json").endswith("}\n")
    assert render_job({"kind": "Job"}, "json") == '{\n  "kind": "Job"\n}\n'


def test_several_manifests_are_documents_in_yaml_and_a_list_in_json() -> None:
    one, two = {"kind": "Secret"}, {"kind": "Job"}
    assert render_manifests([one, two], "yaml") == "kind: Secret\n---\nkind: Job\n"
    assert render_manifests([one], "yaml") == "kind: Secret\n"
    assert json.loads(render_manifests([one], "json")) == one
    listed = {"apiVersion": "v1", "kind": "List", "items": [one, two]}
    assert json.loads(render_manifests([one, two], "json")) == listed
