"""A manifest as text: stable, readable, and the same data again."""

import json
import subprocess
from typing import Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.render import render_job, render_manifests
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.chart.provisioned import provisioned_programs
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
    assert '"' + "word " * 60 + 'end"\n' in text


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


# K7: what YAML 1.1, YAML 1.2 and the library of kubectl each take for something else than text, and
# characters that one of them breaks lines at or does not take.
TEXTS = [
    "72225e2", "1e3", "1E-3", "20260131e5", "0o17", "017", "0x1F", "0b11", "1_000", "1.0", "1.", ".5", "-1",
    "+1", "12:30", "1:2:3", "190:20:30.15", "2026-01-31", "2026-01-31T10:00:00Z", "y", "Y", "n", "N", "yes",
    "No", "ON", "off", "true", "False", "null", "Null", "~", "", " ", "nan", "Inf", ".inf", "-.Inf", ".NaN",
    "-", "--", "---", "...", "?", "=", "<<", "-y", "- a", "a: b", "a:", "a #b", "#a", "&a", "*a", "!a", "|",
    ">", "%a", "@a", "`a", "{}", "[]", ",", "'", '"', "\\", "a\\nb", "a'b", 'a"b', "\x85", "a\x85b",
    "a\u2028b", "a\u2029b", "\ufeff", "a\ufeffb", "\x7f", "\x1b[0m", "\x01", "\x9f", "\xa0", "\xad",
    "\ufffe", "\uffff", "\U0001f389", "a\tb", "\ta", "a\rb", "a\r\nb", "\n", "\n\n", "a\n", "a\n\n",
    " a\nb", "\na\n", "a \nb", "a\n b\n\n  c\n", "a\n\x85b\n", "a\n\u2028b", "#a\nb: c\n- d",
    "---\na\n...\n", "a\n---\nb", "\ta\nb", "a\n\tb\n", "10m", "16Mi", "busybox:1.36", "--prompt",
    "/bin/sh", "$(A)", "$A", "a=b", "a b", "a ", " a", "é",
]  # fmt: skip


def read_by_kubectl(*texts: str, fmt: Literal["yaml", "json"] = "yaml") -> list[str]:
    """Texts as arguments, values and label keys of a Pod, as kubectl reads what we write."""
    env = [{"name": f"V{index}", "value": text} for index, text in enumerate(texts)]
    labels = {"name": "x", "labels": {text: text for text in texts if len(text) < 64}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": labels,
        "spec": {"containers": [{"name": "task", "args": list(texts), "env": env}]},
    }
    done = subprocess.run(
        [provisioned_programs().kubectl, "patch", "--local", "-p", "{}", "-o", "json", "-f", "-"],
        input=render_job(pod, fmt).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    read = json.loads(done.stdout)
    (container,) = read["spec"]["containers"]
    assert container["args"] == [entry.get("value", "") for entry in container["env"]]
    assert read["metadata"]["labels"] == labels["labels"]
    return [str(text) for text in container["args"]]


@pytest.mark.parametrize("fmt", ["yaml", "json"])
def test_kubectl_reads_each_text_as_it_is(fmt: Literal["yaml", "json"]) -> None:
    assert dict(zip(TEXTS, read_by_kubectl(*TEXTS, fmt=fmt), strict=True)) == {text: text for text in TEXTS}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
        | st.text("0123456789eExob_.:+-~ynNaif \t\n#'\"\x85\u2028", max_size=8),
        min_size=1,
        max_size=60,
    )
)
def test_kubectl_reads_any_text_as_it_is(texts: list[str]) -> None:
    assert read_by_kubectl(*texts) == texts


@pytest.mark.parametrize("text", ["/bin/sh", "busybox:1.36", "--prompt", "Never", "oz-task-run-1"])
def test_words_are_plain(text: str) -> None:
    assert render_job({"a": text}, "yaml") == f"a: {text}\n"
