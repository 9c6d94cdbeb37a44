from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import (
    Assignment,
    AssignmentError,
    InstanceShape,
    Sidecar,
    compact_json,
    parse_assignment,
    trimmed,
)
from oz_agent_worker.protocol.report import ExecutionKey

from .frames import decoded_assignment, parsed

CANARY = "canary-93aa"


def test_the_least_that_can_be_run() -> None:
    assert parsed() == Assignment(key=ExecutionKey("run-1", "exec-1"), agent_task_id="run-1")


def test_every_field_in_its_clean_form() -> None:
    snapshot = frames.ConfigSnapshot(model_id=" m ", harness=frames.HarnessConfig(type=" codex "))
    assignment = parsed(
        task_id=" run-1\n",
        execution_id=" exec-1 ",
        task={
            "id": "\trun-9 ",
            "title": "Fix it",
            "owner": {"Type": "TEAM"},
            "agent_config_snapshot": {"model_id": " m ", "harness": {"type": " codex "}},
        },
        docker_image=" img:1 ",
        sidecar_image=" agent:1 ",
        env_vars={"A": " kept as it is ", "EMPTY": "", "GONE": None},
        additional_sidecars=[
            {"image": " i ", "mount_path": " /m ", "read_write": True},
            None,
            {"image": "j", "mount_path": "/n", "read_write": None},
        ],
        additional_oz_args=["--flag", "", " untouched ", None],
        instance_shape={"vcpus": 2, "memory_gb": 8},
    )
    assert assignment == Assignment(
        key=ExecutionKey("run-1", "exec-1"),
        agent_task_id="run-9",
        title="Fix it",
        team_owned=True,
        config=snapshot,
        image="img:1",
        sidecars=(Sidecar("agent:1", "/agent"), Sidecar("i", "/m", read_write=True), Sidecar("j", "/n")),
        env={"A": Secret(" kept as it is "), "EMPTY": Secret("")},
        extra_args=("--flag", "", " untouched "),
        shape=InstanceShape(2, 8),
    )
    assert assignment.harness == "codex"


@pytest.mark.parametrize("execution_id", [None, "", "  "])
def test_the_run_id_is_the_execution_id_where_none_is_named(execution_id: str | None) -> None:
    assert parsed(execution_id=execution_id).key.execution_id == "run-1"


@pytest.mark.parametrize("task", [{}, {"id": None}, {"id": " "}])
def test_the_agent_s_task_id_is_the_run_s_where_the_task_has_none(task: dict[str, Any]) -> None:
    assert parsed(task=task).agent_task_id == "run-1"


@pytest.mark.parametrize(
    ("owner", "team_owned"),
    [
        (None, False),
        ({}, False),
        ({"Type": "USER"}, False),
        ({"Type": "TEAM", "Id": 1}, True),
        ({"Type": " TEAM "}, True),
        ({"Type": "team"}, False),
    ],
)
def test_team_owned(owner: object, team_owned: bool) -> None:
    assert parsed(task={"owner": owner}).team_owned is team_owned


@pytest.mark.parametrize(
    ("harness", "expected"),
    [(None, None), ({}, None), ({"type": ""}, None), ({"type": "oz"}, None), ({"type": " oz "}, None),
     ({"type": "claude"}, "claude"), ({"type": " codex\n"}, "codex")],
)  # fmt: skip
def test_harness(harness: object, expected: str | None) -> None:
    assert parsed(task={"agent_config_snapshot": {"harness": harness}}).harness == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (None, InstanceShape()),
        ({}, InstanceShape()),
        ({"vcpus": 0, "memory_gb": -1}, InstanceShape()),
        ({"vcpus": 4, "memory_gb": 0}, InstanceShape(vcpus=4)),
        ({"memory_gb": 16}, InstanceShape(memory_gb=16)),
    ],
)
def test_each_size_of_the_shape_applies_where_it_is_positive(shape: object, expected: InstanceShape) -> None:
    assert parsed(instance_shape=shape).shape == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"task_id": None}, "`task_id` is missing"),
        ({"task_id": "  "}, "`task_id` is missing"),
        ({"task": None}, "`task` is missing: the assignment does not say what to run"),
        ({"task_id": "a b"}, "`task_id` is not an identifier"),
        ({"task_id": "a\u0007"}, "`task_id` is not an identifier"),
        ({"task_id": "x" * 513}, "`task_id` is not an identifier"),
        ({"execution_id": "a\tb"}, "`execution_id` is not an identifier"),
        ({"task": {"id": "a\u2028b"}}, "`task.id` is not an identifier"),
        ({"env_vars": {"": "x"}}, "`env_vars` has an empty name, a name with `=`, or a NUL character"),
        ({"env_vars": {"A=B": "x"}}, "`env_vars` has an empty name"),
        ({"env_vars": {"A\0": "x"}}, "`env_vars` has an empty name"),
        ({"env_vars": {"A": "x\0y"}}, "`env_vars` has an empty name"),
    ],
)
def test_what_cannot_be_carried_out(data: dict[str, Any], text: str) -> None:
    with pytest.raises(AssignmentError) as caught:
        parsed(**data)
    assert str(caught.value).startswith(text)


def test_the_longest_identifier_and_one_with_a_slash_pass() -> None:
    assert parsed(task_id="a/../b").key.task_id == "a/../b"
    assert parsed(task_id="x" * 512).key.task_id == "x" * 512


def test_errors_hold_no_values() -> None:
    frame = decoded_assignment(env_vars={f"{CANARY}=": f"{CANARY}\0"})
    with pytest.raises(AssignmentError) as caught:
        parse_assignment(frame)
    assert CANARY not in str(caught.value)


def test_an_assignment_prints_no_secret() -> None:
    assignment = parsed(
        env_vars={"TOKEN": CANARY},
        additional_oz_args=["--token", CANARY],
        task={"agent_config_snapshot": {"mcp_servers": {"a": {"headers": CANARY}}}},
    )
    assert CANARY not in repr(assignment)
    assert CANARY not in str(assignment)


@given(st.none() | st.text())
def test_trimmed_is_none_or_text_without_outer_space(value: str | None) -> None:
    clean = trimmed(value)
    assert clean is None or (clean != "" and clean == clean.strip())


def test_compact_json_orders_names_and_keeps_values() -> None:
    config = parsed(
        task={"agent_config_snapshot": {"mcp_servers": {"b": {"z": 1, "a": [1, 2]}, "a": None, "é": "x y"}}}
    ).config
    assert config is not None
    assert config.mcp_servers is not None
    assert compact_json(config.mcp_servers) == '{"a":null,"b":{"z":1,"a":[1,2]},"é":"x y"}'


def test_values_nested_beyond_measure_are_an_assignment_error() -> None:
    deep = msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(AssignmentError, match="`mcp_servers` is nested too deeply"):
        compact_json({"a": deep})
