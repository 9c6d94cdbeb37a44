"""The agent's settings from its environment, decoded once at the start."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import AgentUsageError

__all__ = ["AgentSettings", "decode_settings"]


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The variables that the agent reads. Times are in seconds."""

    token: str = field(default="", repr=False)
    """``WARP_API_KEY``: the workload token, valid for this run only."""
    task_id: str = ""
    """``TASK_ID``: the run, where ``--task-id`` is absent."""
    server_root_url: str = ""
    """``WARP_SERVER_ROOT_URL``: the control plane, where ``--server-root-url`` is absent."""
    default_harness: str = ""
    """``OZ_AGENT_DEFAULT_HARNESS``: for runs that name none, or ``oz``."""
    command: str = field(default="", repr=False)
    """``OZ_AGENT_COMMAND``: the template of the harness ``command``."""
    workspace_root: str = ""
    """``OZ_WORKSPACE_ROOT``: the working directory where the agent is started in ``/``."""
    grace: float = 20.0
    """``OZ_AGENT_GRACE_SECONDS``: between SIGTERM and SIGKILL."""
    fetch_budget: float = 60.0
    """``OZ_AGENT_FETCH_SECONDS``: how long to retry an unreachable control plane."""
    quiet: bool = False
    """``OZ_AGENT_QUIET``: no progress lines; errors are still logged."""


def decode_settings(environment: Mapping[str, str]) -> AgentSettings:
    """Decode the environment; an empty variable counts as absent.

    Raises:
        AgentUsageError: a variable is not a number of seconds; the text names it.
    """

    def text(name: str) -> str:
        return environment.get(name, "").strip()

    def seconds(name: str, default: float) -> float:
        value = text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise AgentUsageError(f"{name} is a number of seconds, 0 or more")
        return number

    return AgentSettings(
        token=text("WARP_API_KEY"),
        task_id=text("TASK_ID"),
        server_root_url=text("WARP_SERVER_ROOT_URL"),
        default_harness=text("OZ_AGENT_DEFAULT_HARNESS"),
        command=text("OZ_AGENT_COMMAND"),
        workspace_root=text("OZ_WORKSPACE_ROOT"),
        grace=seconds("OZ_AGENT_GRACE_SECONDS", AgentSettings.grace),
        fetch_budget=seconds("OZ_AGENT_FETCH_SECONDS", AgentSettings.fetch_budget),
        quiet=text("OZ_AGENT_QUIET") not in ("", "0"),
    )
