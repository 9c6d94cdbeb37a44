"""Lists of runs: filters, sort orders and keyset paging."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import gt, lt
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select

from oz_agent_worker.controlplane.rules.run_states import RunState

from .cursor import Cursor, CursorError
from .runs import Run, metadata_of, select_runs, to_run
from .tables import run_metadata, runs

__all__ = ["LISTED_PROMPT", "RunPage", "RunQuery", "SortBy", "list_runs"]

#: Most characters of a prompt in a list; the run itself shows the whole prompt.
LISTED_PROMPT: Final = 2000
_INT64: Final = 2**63


class SortBy(StrEnum):
    """The sort keys of a list; ``agent`` is the skill, and runs without one come last."""

    UPDATED_AT = "updated_at"
    CREATED_AT = "created_at"
    TITLE = "title"
    AGENT = "agent"


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs, in which order, from where on. Times are microseconds since the epoch.

    ``equals`` are pairs of a column and its value, None for no value; ``nothing`` is set by a
    filter on a property that no run here has.
    """

    states: tuple[RunState, ...] = ()
    equals: tuple[tuple[str, str | None], ...] = ()
    created_after: int | None = None
    created_before: int | None = None
    updated_after: int | None = None
    search: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    ancestor_run_id: str | None = None
    nothing: bool = False
    sort_by: SortBy = SortBy.UPDATED_AT
    descending: bool = True
    after: Cursor | None = None
    limit: int = 20


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """A page; ``next`` is the place where the next one begins, None after the last."""

    runs: tuple[Run, ...]
    metadata: Mapping[str, Mapping[str, str]]
    next: Cursor | None


class _Key(NamedTuple):
    """One column of a sort order."""

    expression: ColumnElement[Any]
    kind: type
    descending: bool


def list_runs(connection: Connection, query: RunQuery) -> RunPage:
    """One page of the runs that match. Raises CursorError for a cursor of another list."""
    if query.nothing:
        return RunPage(runs=(), metadata={}, next=None)
    keys = _order(query.sort_by, query.descending)
    conditions = _conditions(query)
    if query.after:
        conditions.append(_beyond(keys, _checked(query.after, query, keys)))
    labelled = [key.expression.label(f"key_{i}") for i, key in enumerate(keys)]
    statement = (
        select_runs(LISTED_PROMPT)
        .add_columns(*labelled)
        .where(*conditions)
        .order_by(*(k.expression.desc() if k.descending else k.expression.asc() for k in keys))
        .limit(query.limit + 1)
    )
    rows = connection.execute(statement).mappings().all()
    page, more = rows[: query.limit], len(rows) > query.limit
    found = tuple(to_run(row) for row in page)
    last = tuple(page[-1][f"key_{i}"] for i in range(len(keys))) if more else ()
    following = Cursor(query.sort_by.value, query.descending, last) if more else None
    return RunPage(runs=found, metadata=metadata_of(connection, [r.id for r in found]), next=following)


def _order(sort_by: SortBy, descending: bool) -> list[_Key]:
    """The columns of a sort order; the last one, ``seq``, is unique and makes it total."""
    if sort_by is SortBy.AGENT:
        missing = case((runs.c.skill_spec.is_(None), 1), else_=0)
        skill = func.coalesce(runs.c.skill_spec, "")
        keys = [_Key(missing, int, False), _Key(skill, str, descending)]
    else:
        keys = [_Key(runs.c[sort_by.value], str if sort_by is SortBy.TITLE else int, descending)]
    return [*keys, _Key(runs.c.seq, int, descending)]


def _checked(cursor: Cursor, query: RunQuery, keys: Sequence[_Key]) -> tuple[str | int, ...]:
    if (cursor.sort_by, cursor.descending) != (query.sort_by.value, query.descending):
        raise CursorError("belongs to a list in another order")
    sound = len(cursor.keys) == len(keys) and all(
        isinstance(value, key.kind) and (isinstance(value, str) or -_INT64 <= value < _INT64)
        for value, key in zip(cursor.keys, keys, strict=False)
    )
    if not sound:
        raise CursorError("is not a cursor that this server gave")
    return cursor.keys


def _beyond(keys: Sequence[_Key], values: Sequence[str | int]) -> ColumnElement[bool]:
    """The rows after ``values`` in an order of mixed directions: (a > x) or (a = x and b > y) …"""
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(keys, values, strict=True):
        further = key.expression < value if key.descending else key.expression > value
        alternatives.append(and_(*equal, further))
        equal.append(key.expression == value)
    return or_(*alternatives)


def _conditions(query: RunQuery) -> list[ColumnElement[bool]]:
    bounds = (
        (runs.c.created_at, gt, query.created_after),
        (runs.c.created_at, lt, query.created_before),
        (runs.c.updated_at, gt, query.updated_after),
    )
    conditions = [compare(column, value) for column, compare, value in bounds if value is not None]
    conditions += [runs.c[name] == value for name, value in query.equals]
    if query.states:
        conditions.append(runs.c.state.in_([s.value for s in query.states]))
    for term in query.search:
        texts = (func.lower(column) for column in (runs.c.title, runs.c.prompt, runs.c.skill_spec))
        conditions.append(or_(*(text.contains(term.lower(), autoescape=True) for text in texts)))
    pairs = run_metadata.c
    conditions += [
        exists().where(pairs.run_id == runs.c.id, pairs.key == key, pairs.value == value)
        for key, value in query.metadata.items()
    ]
    if query.ancestor_run_id is not None:
        children = select(runs.c.id).where(runs.c.parent_run_id == query.ancestor_run_id)
        family, child = children.cte("family", recursive=True), runs.alias("child")
        family = family.union(select(child.c.id).where(child.c.parent_run_id == family.c.id))
        conditions.append(runs.c.id.in_(select(family.c.id)))
    return conditions
