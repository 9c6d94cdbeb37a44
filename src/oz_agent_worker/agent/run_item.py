"""The run as the control plane describes it, decoded and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import FetchError
from .json_input import loads

__all__ = ["RunItem", "decode_run_item"]


@dataclass(frozen=True, kw_only=True)
class RunItem:
    """The members of ``GET /api/v1/agent/runs/{id}`` that the agent needs."""

    run_id: str
    title: str = ""
    prompt: str = ""
    state: str = ""
    harness: str = ""
    model: str = ""
    base_prompt: str = ""
    mcp_servers: Mapping[str, Any] = field(default_factory=dict, repr=False)


def decode_run_item(body: bytes, run_id: str) -> RunItem:
    """Decode a run item; members may be absent, null or unknown.

    Raises:
        FetchError: no JSON object, or a member of the wrong type. The text names the member's path and
            does not show its value.
    """
    try:
        item = loads(body)
    except (ValueError, RecursionError):
        raise FetchError("the control plane's answer is no JSON: is the server root URL right?") from None
    if not isinstance(item, dict):
        raise FetchError("the control plane's answer is no run item: is the server root URL right?")
    config = _member(item, "agent_config", dict)
    harness = _member(config, "harness", dict, "agent_config.")
    return RunItem(
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
        raise FetchError(f"the control plane's run item is invalid: {where}{name} is not {wanted}")
    return value
