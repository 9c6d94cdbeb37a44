import random
from typing import Any

import pytest
from sqlalchemy import Connection

from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import reports
from oz_agent_worker.controlplane.store.cursor import Cursor, CursorError
from oz_agent_worker.controlplane.store.run_list import LISTED_PROMPT, RunQuery, SortBy, list_runs

from .support import GRACE, KEY_ID, T0, add_run


def titles(connection: Connection, **query: Any) -> list[str]:
    defaults: dict[str, Any] = {"sort_by": SortBy.CREATED_AT, "descending": False, "limit": 100}
    return [run.title for run in list_runs(connection, RunQuery(**defaults | query)).runs]


def paged(connection: Connection, query: dict[str, Any]) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = list_runs(connection, RunQuery(**query, after=after))
        found += [run.id for run in page.runs]
        after = page.next
        if after is None:
            return found


def test_the_latest_change_comes_first(connection: Connection) -> None:
    one, two = add_run(connection, T0), add_run(connection, T0 + 1)
    assert paged(connection, {}) == [two, one]
    reports.cancel(connection, one, T0 + 2, T0 + GRACE)
    assert paged(connection, {}) == [one, two]


@pytest.mark.parametrize("sort_by", list(SortBy))
@pytest.mark.parametrize("descending", [True, False])
def test_pages_hold_every_run_once_in_order(
    connection: Connection, sort_by: SortBy, descending: bool
) -> None:
    chance = random.Random(7)
    for _ in range(25):
        # Few values, so that pages break between equal ones.
        add_run(
            connection,
            T0 + chance.randrange(4),
            title=chance.choice("abc"),
            skill_spec=chance.choice([None, "s", "t"]),
        )
    order = {"sort_by": sort_by, "descending": descending}
    whole = paged(connection, order | {"limit": 500})
    assert len(set(whole)) == 25
    for limit in (1, 4, 24, 25):
        assert paged(connection, order | {"limit": limit}) == whole


def test_runs_without_a_skill_come_last_either_way(connection: Connection) -> None:
    for title, skill in (("none", None), ("a", "a"), ("b", "b")):
        add_run(connection, title=title, skill_spec=skill)
    assert titles(connection, sort_by=SortBy.AGENT, descending=False) == ["a", "b", "none"]
    assert titles(connection, sort_by=SortBy.AGENT, descending=True) == ["b", "a", "none"]


def test_filters(connection: Connection) -> None:
    add_run(connection, T0, title="plain")
    add_run(connection, T0 + 1, title="full", model_id="m", name="nightly", environment_id="e", source="CLI")
    ended = add_run(connection, T0 + 2, title="ended", skill_spec="repo:review")
    reports.cancel(connection, ended, T0 + 9, T0 + GRACE)
    assert titles(connection, states=(RunState.QUEUED,)) == ["plain", "full"]
    assert titles(connection, states=(RunState.QUEUED, RunState.CANCELLED)) == ["plain", "full", "ended"]
    assert titles(connection, equals=(("model_id", "m"), ("name", "nightly"))) == ["full"]
    assert titles(connection, equals=(("model_id", "m"), ("name", "weekly"))) == []
    assert titles(connection, equals=(("environment_id", None),)) == ["plain", "ended"]
    assert titles(connection, equals=(("creator_id", KEY_ID), ("source", "CLI"))) == ["full"]
    assert titles(connection, created_after=T0, created_before=T0 + 2) == ["full"]
    assert titles(connection, updated_after=T0 + 5) == ["ended"]
    assert titles(connection, nothing=True) == []


def test_search_looks_into_title_prompt_and_skill_whatever_the_case(connection: Connection) -> None:
    add_run(connection, title="Mend", prompt="the 100% BUILD")
    add_run(connection, title="Other", prompt="the 1000 builds", skill_spec="repo:Mend")
    assert titles(connection, search=("mend",)) == ["Mend", "Other"]
    assert titles(connection, search=("mend", "100%")) == ["Mend"]
    assert titles(connection, search=("b_ild",)) == []


def test_metadata_pairs_must_all_be_there(connection: Connection) -> None:
    add_run(connection, title="both", metadata={"a": "1", "b": "2"})
    add_run(connection, title="one", metadata={"a": "1"})
    assert titles(connection, metadata={"a": "1"}) == ["both", "one"]
    assert titles(connection, metadata={"a": "1", "b": "2"}) == ["both"]
    page = list_runs(connection, RunQuery(metadata={"b": "2"}))
    assert page.metadata == {page.runs[0].id: {"a": "1", "b": "2"}}


def test_descendants_of_any_degree(connection: Connection) -> None:
    root = add_run(connection, title="root")
    child = add_run(connection, title="child", parent_run_id=root)
    add_run(connection, title="grandchild", parent_run_id=child)
    add_run(connection, title="stranger")
    assert titles(connection, ancestor_run_id=root) == ["child", "grandchild"]
    assert titles(connection, ancestor_run_id="none") == []


def test_a_list_shows_the_beginning_of_a_prompt(connection: Connection) -> None:
    add_run(connection, prompt="x" * 5000)
    assert list_runs(connection, RunQuery()).runs[0].prompt == "x" * LISTED_PROMPT


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor("title", True, ("t", 1)),
        Cursor("updated_at", False, (1, 1)),
        Cursor("updated_at", True, (1,)),
        Cursor("updated_at", True, ("t", 1)),
        Cursor("updated_at", True, (2**70, 1)),
    ],
)
def test_a_cursor_of_another_list_is_refused(connection: Connection, cursor: Cursor) -> None:
    with pytest.raises(CursorError):
        list_runs(connection, RunQuery(after=cursor))
