"""The run as the control plane describes it, decoded and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import FetchError

__all__ = ["Run", "decode_run"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run item of ``GET /api/v1/agent/runs/{id}``, as far as the agent needs it."""

    run_id: str
    title: str = ""
    prompt: str = ""
    state: str = ""
    harness: str = ""
    model: str = ""
    base_prompt: str = ""
    mcp_servers: Mapping[str, Any] = field(default_factory=dict, repr=False)


def decode_run(body: bytes, run_id: str) -> Run:
    """Decode a run item; absent, null and unknown members are all right.

    Raises:
        FetchError: no JSON object, or a member of the wrong type (its path is named,
            its value is not shown).
    """
    try:
        item = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchError("the control plane's answer is no JSON: is the server root URL right?") from None
    if not isinstance(item, dict):
        raise FetchError("the control plane's answer is no run item: is the server root URL right?")
    config = _member(item, "agent_config", dict)
    harness = _member(config, "harness", dict, "agent_config.")
    return Run(
        run_id=_member(item, "run_id", str) or run_id,
        title=_member(item, "title", str),
        prompt=_member(item, "prompt", str),
        state=_member(item, "state", str),
        harness=_member(harness, "type", str, "agent_config.harness.").strip(),
        model=_member(config, "model_id", str, "agent_config.").strip(),
        base_prompt=_member(config, "base_prompt", str, "agent_config."),
        mcp_servers=_member(config, "mcp_servers", dict, "agent_config."),
    )


def _member(item: Mapping[str, Any], name: str, type_: type[Any], where: str = "") -> Any:
    value = item.get(name)
    if value is None:
        return type_()
    if not isinstance(value, type_):
        wanted = "a string" if type_ is str else "an object"
        raise FetchError(f"the control plane's run item is of no use: {where}{name} is not {wanted}")
    return value
