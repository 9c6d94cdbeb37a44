"""Decodes the query of a request to list runs."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

from starlette.datastructures import QueryParams

from oz_agent_worker.controlplane.problems import invalid, without_nul
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store.cursor import decode_cursor
from oz_agent_worker.controlplane.store.run_list import RunQuery, SortBy
from oz_agent_worker.controlplane.times import parse_time

__all__ = ["LARGEST_PAGE", "PARAMETERS", "parse_run_query"]

T = TypeVar("T")

LARGEST_PAGE: Final = 500
_DEFAULT_PAGE: Final = 20
_LARGEST_METADATA: Final = 5
#: Each word is looked for in three columns of every run; a database also limits the size of a condition.
_MOST_WORDS: Final = 32
_METADATA: Final = re.compile(r"metadata\[(?P<key>[^\]]*)\]")

#: Parameters that compare one column, and the column.
_EQUAL: Final = {
    "creator": "creator_id",
    "environment_id": "environment_id",
    "executor": "creator_id",
    "model_id": "model_id",
    "name": "name",
    "skill": "skill_spec",
    "skill_spec": "skill_spec",
    "source": "source",
    "title": "title",
}
#: The public API's value of ``environment_id`` for runs without an environment.
_NO_ENVIRONMENT: Final = "empty-environment"
#: Filters on properties that no run here has: they match nothing.
_FOREIGN: Final = frozenset({"artifact_type", "factory_uid", "schedule_id"})
#: Every parameter, and its meaning for docs/api.md.
PARAMETERS: Final = {
    "limit": "Runs per page, 1 to 500; by default 20.",
    "cursor": "`next_cursor` of the page before.",
    "state": "Runs in this state; repeatable.",
    "created_after": "Runs created after this RFC 3339 time.",
    "created_before": "Runs created before this RFC 3339 time.",
    "updated_after": "Runs updated after this RFC 3339 time.",
    "q": "Words, 32 at most; the title, the prompt or the skill contains each of them.",
    "title": "Exactly this title.",
    "name": "Exactly this name.",
    "model_id": "Exactly this model.",
    "skill": "Exactly this skill.",
    "skill_spec": "The same as `skill`.",
    "source": "Exactly this source: `API` or `CLI`.",
    "environment_id": "Exactly this environment; `empty-environment` for runs without one.",
    "creator": "The `uid` of an API key.",
    "executor": "The same as `creator`.",
    "metadata[KEY]": "The value of a key of `metadata`; five keys at most.",
    "ancestor_run_id": "Descendants of this run, by `parent_run_id`.",
    "automation_id": "The same as `metadata[automation_id]`.",
    "execution_location": "`REMOTE`; `LOCAL` matches no run.",
    "sort_by": "`updated_at` (default), `created_at`, `title` or `agent` (the skill).",
    "sort_order": "`desc` (default) or `asc`.",
    **dict.fromkeys(sorted(_FOREIGN), "In the public API; no run here has one, so it matches no run."),
}


def parse_run_query(params: QueryParams) -> RunQuery:
    """Turn query parameters into a RunQuery.

    An unknown parameter is refused: ignoring it would return more runs than asked for.

    Raises:
        ProblemError: 400; the detail begins with the parameter's name.
    """
    for name, value in params.multi_items():
        if name not in PARAMETERS and not _METADATA.fullmatch(name):
            raise invalid(f"{name}: there is no such parameter")
        without_nul(name.replace("\0", "?"), name + value)
    # Every run here is executed by a worker, so none is local.
    location = _choice("execution_location", params.get("execution_location", "REMOTE"), ("LOCAL", "REMOTE"))
    equals = [(_EQUAL[name], params[name]) for name in params if name in _EQUAL]
    return RunQuery(
        states=tuple(
            RunState(_choice("state", value, tuple(RunState)))
            for value in dict.fromkeys(params.getlist("state"))
        ),
        equals=tuple((c, None if (c, v) == ("environment_id", _NO_ENVIRONMENT) else v) for c, v in equals),
        created_after=_decode(params, "created_after", parse_time),
        created_before=_decode(params, "created_before", parse_time),
        updated_after=_decode(params, "updated_after", parse_time),
        search=_words(params.get("q", "")),
        metadata=_metadata(params),
        ancestor_run_id=params.get("ancestor_run_id"),
        nothing=not _FOREIGN.isdisjoint(params) or location == "LOCAL",
        sort_by=SortBy(_choice("sort_by", params.get("sort_by", SortBy.UPDATED_AT), tuple(SortBy))),
        descending=_choice("sort_order", params.get("sort_order", "desc"), ("asc", "desc")) == "desc",
        after=_decode(params, "cursor", decode_cursor) if params.get("cursor") else None,
        limit=_decode(params, "limit", _page_size) or _DEFAULT_PAGE,
    )


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.split()))
    if len(words) > _MOST_WORDS:
        raise invalid(f"q: has {len(words)} words, and {_MOST_WORDS} are allowed")
    return words


def _metadata(params: QueryParams) -> Mapping[str, str]:
    found = {m["key"]: params[name] for name in params if (m := _METADATA.fullmatch(name))}
    if len(found) > _LARGEST_METADATA:
        raise invalid(f"metadata: at most {_LARGEST_METADATA} pairs can be asked for")
    # An automation sets this key on the runs that it creates.
    if "automation_id" in params:
        found["automation_id"] = params["automation_id"]
    return found


def _page_size(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise ValueError(f"must be a whole number from 1 to {LARGEST_PAGE}")
    return int(text)


def _choice(name: str, value: str, choices: Collection[str]) -> str:
    if value not in choices:
        raise invalid(f"{name}: must be one of {', '.join(choices)}")
    return value


def _decode(params: QueryParams, name: str, decode: Callable[[str], T]) -> T | None:
    try:
        return decode(params[name]) if name in params else None
    except ValueError as error:
        raise invalid(f"{name}: {error}") from error
