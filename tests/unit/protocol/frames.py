"""Control-plane frames for tests, as the JSON on the wire."""

import json
from typing import Any

from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import Assignment, parse_assignment

__all__ = ["assignment_frame", "decoded_assignment", "parsed"]


def assignment_frame(**data: Any) -> str:
    """A ``task_assignment`` for the run ``run-1``; ``data`` adds to its members or replaces them."""
    members = {"task_id": "run-1", "execution_id": "exec-1", "task": {"id": "run-1"}, **data}
    return json.dumps({"type": "task_assignment", "data": members})


def decoded_assignment(**data: Any) -> frames.TaskAssignment:
    frame = frames.decode_control_plane_frame(assignment_frame(**data))
    assert isinstance(frame, frames.TaskAssignment)
    return frame


def parsed(**data: Any) -> Assignment:
    return parse_assignment(decoded_assignment(**data))
