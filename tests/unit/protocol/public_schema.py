"""The public protocol's frames from a control plane: each member's JSON type, and a check of frames.

A path is the names from ``data`` down, joined by dots; ``[]`` stands for the items of a list.
The types are those that the public worker decodes. It drops a frame with any other.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

__all__ = [
    "CANCELLATION",
    "FAILURE_REASONS",
    "MEMBERS",
    "SHOWN",
    "UNREAD",
    "frame_faults",
    "type_faults",
]

#: The members of ``task_assignment``.
MEMBERS: Final = {
    "task_id": "string",
    "execution_id": "string",
    "task": "object",
    "task.id": "string",
    "task.title": "string",
    "task.task_definition": "object",
    "task.task_definition.prompt": "string",
    "task.created_at": "time",
    "task.updated_at": "time",
    "task.owner": "object",
    "task.owner.Type": "string",
    "task.owner.Id": "integer",
    "task.agent_config_snapshot": "object",
    "task.agent_config_snapshot.environment_id": "string",
    "task.agent_config_snapshot.base_prompt": "string",
    "task.agent_config_snapshot.model_id": "string",
    "task.agent_config_snapshot.profile_id": "string",
    "task.agent_config_snapshot.skill_spec": "string",
    "task.agent_config_snapshot.mcp_servers": "map",
    "task.agent_config_snapshot.computer_use_enabled": "boolean",
    "task.agent_config_snapshot.idle_timeout_minutes": "integer",
    "task.agent_config_snapshot.harness": "object",
    "task.agent_config_snapshot.harness.type": "string",
    "task.agent_config_snapshot.harness_auth_secrets": "object",
    "task.agent_config_snapshot.harness_auth_secrets.claude_auth_secret_name": "string",
    "task.agent_config_snapshot.inference_providers": "object",
    "task.agent_config_snapshot.inference_providers.aws": "object",
    "task.agent_config_snapshot.inference_providers.aws.disabled": "boolean",
    "task.agent_config_snapshot.inference_providers.aws.role_arn": "string",
    "task.agent_config_snapshot.inference_providers.aws.region": "string",
    "task.agent_config_snapshot.session_sharing": "object",
    "task.agent_config_snapshot.session_sharing.public_access": "string",
    "task.agent_config_snapshot.snapshot_disabled": "boolean",
    "task.agent_config_snapshot.snapshot_upload_timeout_secs": "integer",
    "task.agent_config_snapshot.snapshot_script_timeout_secs": "integer",
    "task.agent_conversation_id": "string",
    "docker_image": "string",
    "sidecar_image": "string",
    "env_vars": "map of strings",
    "additional_sidecars": "list of objects",
    "additional_sidecars[].image": "string",
    "additional_sidecars[].mount_path": "string",
    "additional_sidecars[].read_write": "boolean",
    "additional_oz_args": "list of strings",
    "instance_shape": "object",
    "instance_shape.vcpus": "integer",
    "instance_shape.memory_gb": "integer",
}
#: Every ``failure_reason`` of the public protocol.
FAILURE_REASONS: Final = frozenset(
    {
        "unknown",
        "task_timeout",
        "task_cancelled",
        "graceful_shutdown",
        "image_pull",
        "sidecar_prep",
        "container_create",
        "container_start",
        "container_wait",
        "container_exit",
        "container_oom",
        "workspace_setup",
        "setup_command",
        "agent_invocation",
        "teardown_command",
        "dispatch_command",
        "dispatch_timeout",
        "cancel_command",
        "job_create",
        "job_watch",
        "job_failed",
        "evicted",
        "pod_watch",
        "unschedulable",
        "volume_mount",
        "init_container",
        "invalid_image",
        "active_deadline",
        "cleanup",
    }
)
#: The members of ``task_cancellation``.
CANCELLATION: Final = {"task_id": "string"}

#: What no worker reads, the members of these included.
UNREAD: Final = (
    "task.task_definition",
    "task.updated_at",
    "task.agent_conversation_id",
    "task.owner.Id",
    "task.agent_config_snapshot.base_prompt",
    "task.agent_config_snapshot.harness_auth_secrets",
)
#: What a worker only shows or measures: of another type than a string it counts as absent.
SHOWN: Final = ("task.title", "task.created_at")

#: The frames that a control plane sends, with their members and those that must be there.
_FRAMES: Final = {
    "task_assignment": (MEMBERS, {"task_id", "task"}),
    "task_cancellation": (CANCELLATION, {"task_id"}),
}
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def frame_faults(text: str) -> list[str]:
    """Return what the public protocol does not have in the text of a control plane's frame.

    That is another type of frame, a member that is missing, or one of ``type_faults``.
    """
    frame = json.loads(text, parse_constant=lambda constant: {"not JSON": constant})
    if set(frame) != {"type", "data"} or frame["type"] not in _FRAMES:
        return [f"frame {frame.get('type')}"]
    members, required = _FRAMES[frame["type"]]
    missing = [f"no {name}" for name in sorted(required - set(frame["data"]))]
    return missing + type_faults(frame["data"], members)


def type_faults(data: dict[str, Any], members: dict[str, str] = MEMBERS) -> list[str]:
    """Return the paths of the members that the public protocol does not have, or not with this type."""
    return list(_faults(data, "", members))


def _faults(value: dict[str, Any], path: str, members: dict[str, str]) -> Iterator[str]:
    for name, member in value.items():
        where = f"{path}.{name}" if path else name
        expected = members.get(where)
        if expected is None or not _is_of_type(member, expected):
            yield where
        elif expected == "object":
            yield from _faults(member, where, members)
        elif expected == "list of objects":
            for item in member:
                yield from _faults(item, f"{where}[]", members)


def _is_of_type(value: Any, expected: str) -> bool:
    match expected:
        case "string":
            return isinstance(value, str)
        case "time":
            return isinstance(value, str) and _is_time(value)
        case "integer":
            return type(value) is int and -(2**63) <= value < 2**63
        case "boolean":
            return isinstance(value, bool)
        case "list of strings":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "list of objects":
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
        case "map of strings":
            return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        case _:
            return isinstance(value, dict)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return _RFC3339.fullmatch(text) is not None
