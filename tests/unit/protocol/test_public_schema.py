"""The check of public frames finds what the public worker would not read."""

import json
from typing import Any

import pytest

from .public_schema import frame_faults

TASK: dict[str, Any] = {"id": "r"}


def assignment(**data: Any) -> str:
    return json.dumps({"type": "task_assignment", "data": {"task_id": "r", "task": TASK} | data})


def test_the_smallest_frames() -> None:
    assert frame_faults(assignment()) == []
    assert frame_faults('{"type": "task_cancellation", "data": {"task_id": "r"}}') == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"type": "ack", "data": {"ack_id": "1"}}', "frame ack"),
        ('{"type": "task_cancellation", "data": {"task_id": "r"}, "seq": 1}', "frame task_cancellation"),
        ('{"type": "task_cancellation", "data": {"task_id": "r", "execution_id": "e"}}', "execution_id"),
        ('{"type": "task_cancellation", "data": {}}', "no task_id"),
        ('{"type": "task_assignment", "data": {"task_id": "r"}}', "no task"),
        (assignment(instance_shape={"vcpus": 2.0}), "instance_shape.vcpus"),
        (assignment(instance_shape={"memory_gb": 1.5}), "instance_shape.memory_gb"),
        (assignment(instance_shape={"memory_gb": float("nan")}), "instance_shape.memory_gb"),
        (assignment(env_vars={"A": 1}), "env_vars"),
        (assignment(task=TASK | {"created_at": "yesterday"}), "task.created_at"),
        (assignment(task=TASK | {"created_at": 1}), "task.created_at"),
        (assignment(task=TASK | {"owner": {"Id": "7"}}), "task.owner.Id"),
        (
            assignment(task=TASK | {"agent_config_snapshot": {"mcp_servers": []}}),
            "task.agent_config_snapshot.mcp_servers",
        ),
    ],
)
def test_what_is_not_public(text: str, fault: str) -> None:
    assert frame_faults(text) == [fault]
