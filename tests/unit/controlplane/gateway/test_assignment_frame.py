import json

import msgspec
import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.api.run_request import decode_run_request
from oz_agent_worker.controlplane.gateway.assignment_frame import task_assignment
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.protocol.frames import TaskCancellation, encode_frame
from tests.unit.controlplane.samples import RUN, a_run
from tests.unit.protocol.public_schema import CANCELLATION, MEMBERS, type_faults

SETTINGS = ControlPlaneSettings(database_url="sqlite:///x", default_sidecar_image="agent:1")
CONFIG = {
    "worker_host": "w",
    "name": "nightly",
    "model_id": "m",
    "environment_id": "e",
    "harness": {"type": "claude", "model_id": "opus"},
    "mcp_servers": {"git": {"command": "git-mcp", "env": {"A": "b"}}},
    "idle_timeout_minutes": 5,
}
#: Every member that a request may give and that the public snapshot has.
FULL_CONFIG = {
    "worker_host": "w",
    "base_prompt": "Be brief",
    "computer_use_enabled": False,
    "environment_id": "e",
    "harness": {"type": "claude", "model_id": "opus", "reasoning_level": "high"},
    "harness_auth_secrets": {"claude_auth_secret_name": "c", "codex_auth_secret_name": "d"},
    "idle_timeout_minutes": 5,
    "inference_providers": {"aws": {"disabled": True, "role_arn": "arn", "region": "eu"}},
    "mcp_servers": {"git": {"command": "git-mcp"}},
    "model_id": "m",
    "profile_id": "p",
    "session_sharing": {"public_access": "VIEWER"},
    "skill_spec": "s",
    "snapshot_disabled": True,
    "snapshot_script_timeout_secs": 1,
    "snapshot_upload_timeout_secs": 2,
}


def test_a_whole_frame() -> None:
    run = a_run(config=json.dumps(CONFIG), conversation_id="c")
    frame = json.loads(encode_frame(task_assignment(run, Secret("ozw_x"), SETTINGS)))
    assert frame == {
        "type": "task_assignment",
        "data": {
            "task_id": RUN.id,
            "execution_id": RUN.execution_id,
            "task": {
                "id": RUN.id,
                "title": "Mend the build",
                "task_definition": {"prompt": "Mend the build, please"},
                "created_at": "2026-01-02T03:04:05.000000Z",
                "updated_at": "2026-01-02T03:04:05.000000Z",
                "agent_config_snapshot": {
                    "environment_id": "e",
                    "model_id": "m",
                    "mcp_servers": {"git": {"command": "git-mcp", "env": {"A": "b"}}},
                    "idle_timeout_minutes": 5,
                    "harness": {"type": "claude"},
                },
                "agent_conversation_id": "c",
            },
            "sidecar_image": "agent:1",
            "env_vars": {"WARP_API_KEY": "ozw_x"},
        },
    }


def test_without_a_configuration_there_is_no_snapshot() -> None:
    assignment = task_assignment(RUN, Secret("ozw_x"), SETTINGS)
    assert assignment.task is not None
    assert assignment.task.agent_config_snapshot is None


@pytest.mark.parametrize("config", [{}, CONFIG, FULL_CONFIG])
def test_an_assignment_has_the_public_types(config: dict[str, object]) -> None:
    asked = decode_run_request(json.dumps({"prompt": "p", "config": config}).encode())
    run = a_run(config=msgspec.json.encode(asked.config).decode())
    frame = json.loads(encode_frame(task_assignment(run, Secret("ozw_x"), SETTINGS)))
    assert type_faults(frame["data"]) == []


def test_an_assignment_passes_on_the_whole_public_snapshot() -> None:
    run = a_run(config=json.dumps(FULL_CONFIG))
    data = json.loads(encode_frame(task_assignment(run, Secret("ozw_x"), SETTINGS)))["data"]
    prefix = "task.agent_config_snapshot."
    public = {path.removeprefix(prefix).partition(".")[0] for path in MEMBERS if path.startswith(prefix)}
    assert set(data["task"]["agent_config_snapshot"]) == public


def test_a_cancellation_has_the_public_types() -> None:
    frame = json.loads(encode_frame(TaskCancellation(task_id=RUN.id)))
    assert type_faults(frame["data"], CANCELLATION) == []


def test_the_token_does_not_print_itself() -> None:
    assert "ozw_x" not in repr(task_assignment(RUN, Secret("ozw_x"), SETTINGS))
