"""What the worker and the agent runtime say to each other: the agent's command line. Standard library alone.

The worker writes these flags, the same for every backend, and the agent reads them. Source: the command
line of the public service's agent, which docs/protocol.md describes.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

__all__ = ["AGENT_FLAGS", "AgentFlag", "FlagKind"]


class FlagKind(Enum):
    """How many arguments a flag takes, and of which kind."""

    SWITCH = auto()
    VALUE = auto()
    DURATION = auto()
    OPTIONAL_DURATION = auto()


@dataclass(frozen=True, slots=True)
class AgentFlag:
    """One flag of ``agent run``.

    ``support`` is what our agent does with it: ``used``; ``ignored``, where that does not change the
    result; ``warned``, where the agent ignores it and says so, because the result may differ.
    """

    name: str
    kind: FlagKind
    metavar: str
    help: str
    support: Literal["used", "ignored", "warned"] = "ignored"


_SWITCH, _VALUE, _DURATION = FlagKind.SWITCH, FlagKind.VALUE, FlagKind.DURATION

AGENT_FLAGS: Final = (
    AgentFlag("--task-id", _VALUE, "ID", "the run to fetch and carry out (default: $TASK_ID)", "used"),
    AgentFlag(
        "--server-root-url", _VALUE, "URL", "the control plane (default: $WARP_SERVER_ROOT_URL)", "used"
    ),
    AgentFlag("--harness", _VALUE, "NAME", "what runs the prompt; wins over the run's own choice", "used"),
    AgentFlag("--model", _VALUE, "NAME", "model for the harness; wins over the run's own choice", "used"),
    AgentFlag("--mcp", _VALUE, "JSON", "MCP servers by name, added to the run's own (repeatable)", "used"),
    AgentFlag("--sandboxed", _SWITCH, "", "the task is a sandbox: harnesses need not ask permission", "used"),
    AgentFlag("--share", _VALUE, "WHO:WHAT", "session sharing (repeatable)"),
    AgentFlag("--skill", _VALUE, "SPEC", "skill", "warned"),
    AgentFlag("--profile", _VALUE, "ID", "agent profile", "warned"),
    AgentFlag("--computer-use", _SWITCH, "", "computer use on"),
    AgentFlag("--no-computer-use", _SWITCH, "", "computer use off"),
    AgentFlag("--bedrock-inference-role", _VALUE, "ARN", "AWS role for inference", "warned"),
    AgentFlag("--bedrock-role-region", _VALUE, "REGION", "AWS region of that role"),
    AgentFlag("--no-snapshot", _SWITCH, "", "no workspace snapshot"),
    AgentFlag("--snapshot-upload-timeout", _DURATION, "TIME", "limit of the snapshot's upload"),
    AgentFlag("--snapshot-script-timeout", _DURATION, "TIME", "limit of the snapshot's script"),
    AgentFlag("--environment", _VALUE, "ID", "environment"),
    AgentFlag(
        "--idle-on-complete", FlagKind.OPTIONAL_DURATION, "[TIME]", "wait for follow-ups after the run"
    ),
    AgentFlag("--session-sharing-server-url", _VALUE, "URL", "session sharing server"),
)
