import json

from oz_agent_worker.controlplane.assignment import task_assignment
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.core.secret import Secret
from oz_agent_worker.core.wire import encode_frame
from tests.unit.controlplane.samples import RUN, a_run

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
                "owner": {"Type": "USER", "Id": RUN.creator_id},
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


def test_the_token_does_not_print_itself() -> None:
    assert "ozw_x" not in repr(task_assignment(RUN, Secret("ozw_x"), SETTINGS))
