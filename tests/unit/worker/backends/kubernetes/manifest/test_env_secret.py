"""The Secret of a task's variables: what is in it, under which keys, and whose it is."""

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.worker.backends.kubernetes.manifest.env_secret import (
    MAX_SECRET,
    check_variables,
    secret_key,
    task_variables,
)
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry
from tests.unit.worker.backends.kubernetes.samples import task_spec

CONFIG = KubernetesConfig(
    namespace="agents",
    task_env_secret=True,
    extra_labels={"team": "core"},
    environment=(EnvEntry("PROXY", "http://proxy"), EnvEntry("UNRESOLVED")),
)


def built(variables: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Job of a task with these variables, and its Secret."""
    spec = task_spec(environment={name: Secret(value) for name, value in variables.items()})
    plan = plan_job(spec, CONFIG, worker_id="w", cleanup=True, unique="0f")
    name = plan.job["metadata"]["annotations"]["oz.warp.dev/environment-secret"]
    assert name == plan.secret_name
    return plan.job, plan.environment_secret(name, "uid-1")


def test_the_whole_secret() -> None:
    job, secret = built({"TOKEN": "é$(HOME)\n", "EMPTY": ""})
    assert secret == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "oz-task-7b3a1c2e-run-exec-a2b3c4d5-env-0f",
            "namespace": "agents",
            "labels": job["metadata"]["labels"],
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": "oz-task-7b3a1c2e-run-exec-a2b3c4d5",
                    "uid": "uid-1",
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {"EMPTY": "", "PROXY": "aHR0cDovL3Byb3h5", "TOKEN": "w6kkKEhPTUUpCg=="},
    }
    assert secret["metadata"]["labels"]["team"] == "core"


VARIABLES = st.dictionaries(st.text(min_size=1, max_size=300), st.text(max_size=20), max_size=5)


@given(VARIABLES)
def test_each_variable_arrives_as_it_was_whatever_its_name(variables: dict[str, str]) -> None:
    own = {"OZ_ENVIRONMENT_FILE", "OZ_RUN_ID", "OZ_WORKER_BACKEND", "OZ_WORKSPACE_ROOT"}
    job, secret = built(variables)
    entries = job["spec"]["template"]["spec"]["containers"][0]["env"]
    arrived = {}
    for entry in entries:
        if entry["name"] not in own:
            reference = entry["valueFrom"]["secretKeyRef"]
            assert reference["name"] == secret["metadata"]["name"]
            arrived[entry["name"]] = base64.b64decode(secret["data"][reference["key"]]).decode()
    given_here = {name: value for name, value in variables.items() if name not in own}
    assert arrived == {"PROXY": "http://proxy", **given_here}


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_a_key_is_one_that_secrets_take_and_no_other_variables(one: str, other: str) -> None:
    key = secret_key(one)
    # apimachinery, validation.IsConfigMapKey
    assert re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key)
    assert not key.startswith("..")
    assert key != "."
    assert (key == secret_key(other)) is (one == other)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("PATH", True),
        ("my.var-1", True),
        (".hidden", True),
        ("two words", False),
        ("é", False),
        (".", False),
        ("..", False),
        ("..a", False),
        ("A" * 254, False),
        ("A\n", False),
        ("sha256-0", False),
    ],
)
def test_a_name_that_can_be_a_key_is_its_own(name: str, kept: bool) -> None:
    assert (secret_key(name) == name) is kept


def test_the_backends_own_variables_and_the_templates_stay_in_the_pod() -> None:
    template = {
        "containers": [
            {"name": "task", "env": [{"name": "PROXY", "value": "theirs"}, {"name": "TOKEN", "value": "x"}]}
        ]
    }
    config = KubernetesConfig(task_env_secret=True, pod_template=template, environment=CONFIG.environment)
    spec = task_spec(environment={"TOKEN": Secret("ours"), "OZ_RUN_ID": Secret("theirs")})
    job = plan_job(spec, config, worker_id="w", cleanup=True).job
    entries = {e["name"]: e for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert entries["PROXY"] == {"name": "PROXY", "value": "theirs"}
    assert entries["OZ_RUN_ID"] == {"name": "OZ_RUN_ID", "value": spec.key.task_id}
    assert "valueFrom" in entries["TOKEN"]
    assert "PROXY" not in task_variables(spec, config)


def test_the_largest_that_fits_and_the_smallest_that_does_not() -> None:
    check_variables({"A": Secret("a" * (MAX_SECRET - 2)), "B": Secret("é")})
    with pytest.raises(AssignmentError, match=r"1048577 bytes, .* 1048576 at most"):
        check_variables({"A": Secret("a" * (MAX_SECRET - 1)), "B": Secret("é")})


def test_what_no_secret_can_hold_makes_no_job_and_does_not_show_itself() -> None:
    with pytest.raises(AssignmentError, match="at most"):
        built({"A": "x" * (MAX_SECRET + 1)})
    with pytest.raises(AssignmentError, match="the variable A ") as caught:
        built({"A": "swordfish\ud800"})
    assert "swordfish" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
