"""Each frame that a worker without capabilities gets has the public types, from the API to the socket."""

from typing import Any, get_args

import aiohttp
import pytest
from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.controlplane.api.run_request import CONFIG_FIELDS, REQUEST_FIELDS
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.protocol.frames import Ack, ControlPlaneFrame, TaskAssignment, TaskCancellation
from tests.timeouts import HANG_TIMEOUT
from tests.unit.protocol.public_schema import frame_faults

from .conftest import Connect
from .support import ScriptedWorker

#: A value for each documented field of ``config`` that is taken, and what the snapshot has of it.
CONFIG: dict[str, tuple[Any, dict[str, Any]]] = {
    "worker_host": ("w", {}),
    "harness": (
        {"type": "claude", "model_id": "opus", "reasoning_level": "high"},
        {"harness": {"type": "claude"}},
    ),
    "model_id": ("m", {"model_id": "m"}),
    "name": ("nightly", {}),
    "base_prompt": ("Be brief \N{ROCKET}", {"base_prompt": "Be brief \N{ROCKET}"}),
    "mcp_servers": (
        {"b": {"url": "https://x/<&>", "headers": {"A": "b"}}, "a": {"args": ["1"], "port": 0.5}},
        {
            "mcp_servers": {
                "b": {"url": "https://x/<&>", "headers": {"A": "b"}},
                "a": {"args": ["1"], "port": 0.5},
            }
        },
    ),
    "profile_id": ("p", {"profile_id": "p"}),
    "environment_id": ("e", {"environment_id": "e"}),
    "skill_spec": ("repo:review", {"skill_spec": "repo:review"}),
    "skills": (["repo:one", "repo:two"], {"skill_spec": "repo:one"}),
    "computer_use_enabled": (False, {"computer_use_enabled": False}),
    "idle_timeout_minutes": (5, {"idle_timeout_minutes": 5}),
    "session_sharing": ({"public_access": "VIEWER"}, {"session_sharing": {"public_access": "VIEWER"}}),
    "inference_providers": (
        {"aws": {"disabled": True, "role_arn": "arn", "region": "eu"}},
        {"inference_providers": {"aws": {"disabled": True, "role_arn": "arn", "region": "eu"}}},
    ),
    "harness_auth_secrets": (
        {"claude_auth_secret_name": "c", "codex_auth_secret_name": "d"},
        {"harness_auth_secrets": {"claude_auth_secret_name": "c"}},
    ),
    "snapshot_disabled": (True, {"snapshot_disabled": True}),
    "snapshot_upload_timeout_secs": (2**31 - 1, {"snapshot_upload_timeout_secs": 2**31 - 1}),
    "snapshot_script_timeout_secs": (0, {"snapshot_script_timeout_secs": 0}),
    "credential_strategy": ("EXECUTOR", {}),
    "runner_id": ("r", {}),
    "memory_stores": ([], {}),
}
#: A value for each other documented field of a request that is taken.
REQUEST: dict[str, Any] = {
    "prompt": "Mend \N{ROCKET} it\n<&> \u2028",
    "title": "A title",
    "config": {},
    "skill": "repo:review",
    "metadata": {"ticket_id": "T-1"},
    "conversation_id": "c",
    "safe_to_retry": True,
    "team": True,
    "mode": "normal",
    "interactive": False,
    "attachments": [],
    "agent_identity_uid": "",
    "on_behalf_of": "",
}


@pytest.fixture
def settings(settings: ControlPlaneSettings) -> ControlPlaneSettings:
    return ControlPlaneSettings(
        port=0,
        database_url=settings.database_url,
        default_docker_image="ubuntu:24.04",
        default_sidecar_image="agent:1",
    )


async def text_of_frame(w: ScriptedWorker) -> str:
    message = await w.socket.receive(HANG_TIMEOUT)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    text: str = message.data
    return text


async def submit(http: aiohttp.ClientSession, body: dict[str, Any]) -> str:
    async with http.post("agent/runs", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        run_id: str = answer["run_id"]
        return run_id


async def assigned(http: aiohttp.ClientSession, w: ScriptedWorker, body: dict[str, Any]) -> dict[str, Any]:
    """The data of the assignment of a run, which has the public types alone."""
    run_id = await submit(http, body)
    message = await w.socket.receive(HANG_TIMEOUT)
    assert frame_faults(message.data) == []
    frame: dict[str, Any] = message.json()
    assert (frame["type"], frame["data"]["task_id"]) == ("task_assignment", run_id)
    return frame["data"]  # type: ignore[no-any-return]


def test_every_documented_field_has_a_row() -> None:
    assert set(CONFIG) == set(CONFIG_FIELDS)
    assert set(REQUEST) | {"parent_run_id"} == set(REQUEST_FIELDS)
    # Of the frames only an ack is not public; it answers a report that has an ``ack_id``.
    assert set(get_args(ControlPlaneFrame)) == {TaskAssignment, TaskCancellation, Ack}


async def test_each_field_of_a_configuration(http: aiohttp.ClientSession, worker: Connect) -> None:
    async with worker(capacity=None) as w:
        for name, (value, expected) in CONFIG.items():
            data = await assigned(http, w, {"prompt": "p", "config": {name: value}})
            assert data["task"]["agent_config_snapshot"] == expected, name
        full = {name: value for name, (value, _) in CONFIG.items()}
        data = await assigned(http, w, {"prompt": "p", "config": full})
        whole: dict[str, Any] = {}
        for _, expected in CONFIG.values():
            whole |= expected
        assert data["task"]["agent_config_snapshot"] == whole | {"skill_spec": "repo:review"}


async def test_each_field_of_a_request(http: aiohttp.ClientSession, worker: Connect) -> None:
    async with worker(capacity=None) as w:
        for name, value in REQUEST.items():
            data = await assigned(http, w, {"prompt": "p", name: value})
            assert (data["docker_image"], data["sidecar_image"]) == ("ubuntu:24.04", "agent:1")
            assert set(data["env_vars"]) == {"WARP_API_KEY"}
            assert "owner" not in data["task"]
        parent = data["task_id"]
        data = await assigned(http, w, {**REQUEST, "parent_run_id": parent})
        assert data["task"]["task_definition"] == {"prompt": REQUEST["prompt"]}
        assert data["task"]["agent_conversation_id"] == "c"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"idle_timeout_minutes": 5.5}, "idle_timeout_minutes"),
        ({"idle_timeout_minutes": 5.0}, "idle_timeout_minutes"),
        ({"idle_timeout_minutes": "5"}, "idle_timeout_minutes"),
        ({"snapshot_upload_timeout_secs": 0.5}, "snapshot_upload_timeout_secs"),
        ({"snapshot_script_timeout_secs": 2**31}, "snapshot_script_timeout_secs"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"mcp_servers": "a"}, "mcp_servers"),
        ({"mcp_servers": {"a": None}}, "mcp_servers.a"),
        ({"mcp_servers": {"a": ["x"]}}, "mcp_servers.a"),
        ({"instance_shape": {"vcpus": 1.5}}, ""),
        ({"model_id": 5}, "model_id"),
        ({"computer_use_enabled": 1}, "computer_use_enabled"),
        ({"harness": "claude"}, "harness"),
        ({"inference_providers": {"aws": {"disabled": "no"}}}, "inference_providers.aws.disabled"),
    ],
)
async def test_what_a_public_worker_would_not_read_is_refused(
    http: aiohttp.ClientSession, config: dict[str, Any], field: str
) -> None:
    async with http.post("agent/runs", json={"prompt": "p", "config": config}) as response:
        problem = await response.json()
        assert response.status == 400
        assert problem["detail"].startswith(f"config.{field}: " if field else "config: "), problem


async def test_it_gets_no_frame_that_it_did_not_negotiate(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect, reaches: Any
) -> None:
    """Whatever it does, what comes is assignments and cancellations with the public members."""
    async with worker(capacity=None) as w:
        run_id = (await assigned(http, w, {"prompt": "cancelled"}))["task_id"]
        await w.send("task_claimed", task_id=run_id, worker_id="w")
        await reaches(run_id, "CLAIMED")
        await sdk.agent.runs.cancel(run_id)
        assert frame_faults(await text_of_frame(w)) == []
        async with worker(capacity=None) as back:
            assert frame_faults(await text_of_frame(back)) == []  # the cancellation that it may have missed
            await back.send("task_claimed", task_id=run_id, worker_id="w")
            assert frame_faults(await text_of_frame(back)) == []  # another connection has it
        await w.send("heartbeat")
        await w.send("task_completed", task_id=run_id, message="", task_state="CANCELLED")
        await reaches(run_id, "CANCELLED")
        await w.send("task_completed", task_id=run_id, message="again")
        rejected = (await assigned(http, w, {"prompt": "rejected"}))["task_id"]
        await w.send("task_rejected", task_id=rejected, reason="at_capacity")
        again = await text_of_frame(w)
        assert frame_faults(again) == []
        assert rejected in again
        await w.send("task_claimed", task_id=rejected, worker_id="w")
        await w.send(
            "task_failed", task_id=rejected, message="", failure_reason="container_exit", exit_code=1
        )
        await reaches(rejected, "FAILED")
        await w.send("task_claimed", task_id=rejected, worker_id="w")
        late = await text_of_frame(w)
        assert frame_faults(late) == []
        assert "task_cancellation" in late
