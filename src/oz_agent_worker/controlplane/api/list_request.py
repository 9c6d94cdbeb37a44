"""Reading the query of a request to list runs."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from starlette.datastructures import QueryParams

from oz_agent_worker.controlplane.problems import invalid
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store.cursor import Cursor, CursorError, decode_cursor
from oz_agent_worker.controlplane.store.run_list import RunQuery, SortBy
from oz_agent_worker.controlplane.times import parse_time

__all__ = ["LARGEST_PAGE", "parse_run_query"]

LARGEST_PAGE: Final = 500
_DEFAULT_PAGE: Final = 20
_LARGEST_METADATA: Final = 5
_METADATA: Final = re.compile(r"metadata\[(?P<key>[^\]]*)\]")

#: Parameters that compare one column, and the column.
_EQUAL: Final = {
    "creator": "creator_id",
    "executor": "creator_id",
    "model_id": "model_id",
    "name": "name",
    "skill": "skill_spec",
    "skill_spec": "skill_spec",
    "source": "source",
    "title": "title",
}
#: The public API's value for runs without an environment.
_NO_ENVIRONMENT: Final = "empty-environment"
#: Filters on what no run here has: they are honoured, and match nothing.
_FOREIGN: Final = frozenset({"artifact_type", "factory_uid", "schedule_id"})
_OTHERS: Final = frozenset(
    {
        "ancestor_run_id",
        "automation_id",
        "created_after",
        "created_before",
        "cursor",
        "environment_id",
        "execution_location",
        "limit",
        "q",
        "sort_by",
        "sort_order",
        "state",
        "updated_after",
    }
)


def parse_run_query(params: QueryParams) -> RunQuery:
    """Turn query parameters into a RunQuery.

    A parameter that is not known is refused: left out, it would widen the list.

    Raises:
        ProblemError: 400, and the detail begins with the parameter's name.
    """
    for name in params:
        if name not in _EQUAL and name not in _FOREIGN | _OTHERS and not _METADATA.fullmatch(name):
            raise invalid(f"{name}: there is no such parameter")
    # Every run here is a worker's, so none is local.
    location = _choice(params, "execution_location", ("LOCAL", "REMOTE"), "REMOTE")
    return RunQuery(
        states=_states(params),
        equals=_equals(params),
        created_after=_time(params, "created_after"),
        created_before=_time(params, "created_before"),
        updated_after=_time(params, "updated_after"),
        search=tuple(params.get("q", "").split()),
        metadata=_metadata(params),
        ancestor_run_id=params.get("ancestor_run_id"),
        nothing=not _FOREIGN.isdisjoint(params) or location == "LOCAL",
        sort_by=SortBy(_choice(params, "sort_by", list(SortBy), SortBy.UPDATED_AT)),
        descending=_choice(params, "sort_order", ("asc", "desc"), "desc") == "desc",
        after=_cursor(params),
        limit=_limit(params.get("limit", str(_DEFAULT_PAGE))),
    )


def _equals(params: QueryParams) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = [(_EQUAL[name], params[name]) for name in params if name in _EQUAL]
    if "environment_id" in params:
        environment = params["environment_id"]
        found.append(("environment_id", None if environment == _NO_ENVIRONMENT else environment))
    return tuple(found)


def _metadata(params: QueryParams) -> Mapping[str, str]:
    found = {m["key"]: params[name] for name in params if (m := _METADATA.fullmatch(name))}
    if len(found) > _LARGEST_METADATA:
        raise invalid(f"metadata: at most {_LARGEST_METADATA} pairs can be asked for")
    # An automation stamps the runs that it creates with this key.
    if "automation_id" in params:
        found["automation_id"] = params["automation_id"]
    return found


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise invalid(f"limit: must be a whole number from 1 to {LARGEST_PAGE}")
    return int(text)


def _choice(params: QueryParams, name: str, choices: Collection[str], default: str) -> str:
    value = params.get(name, default)
    if value not in choices:
        raise invalid(f"{name}: must be one of {', '.join(choices)}")
    return value


def _states(params: QueryParams) -> tuple[RunState, ...]:
    values = params.getlist("state")
    if not set(values) <= set(RunState):
        raise invalid(f"state: must be one of {', '.join(RunState)}")
    return tuple(RunState(value) for value in values)


def _time(params: QueryParams, name: str) -> int | None:
    if name not in params:
        return None
    try:
        return parse_time(params[name])
    except ValueError as error:
        raise invalid(f"{name}: {error}") from error


def _cursor(params: QueryParams) -> Cursor | None:
    if not params.get("cursor"):
        return None
    try:
        return decode_cursor(params["cursor"])
    except CursorError as error:
        raise invalid(f"cursor: {error}") from error
