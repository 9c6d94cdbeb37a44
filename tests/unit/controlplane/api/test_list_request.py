import pytest
from starlette.datastructures import QueryParams

from oz_agent_worker.controlplane.api.list_request import parse_run_query
from oz_agent_worker.controlplane.problems import ProblemError
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store.cursor import Cursor, encode_cursor
from oz_agent_worker.controlplane.store.run_list import RunQuery, SortBy
from oz_agent_worker.controlplane.times import parse_time


def test_no_parameters_give_the_latest_twenty() -> None:
    assert parse_run_query(QueryParams("")) == RunQuery(sort_by=SortBy.UPDATED_AT, descending=True, limit=20)


def test_every_parameter() -> None:
    cursor = Cursor("title", False, ("t", 1))
    query = parse_run_query(
        QueryParams(
            [
                ("state", "QUEUED"),
                ("state", "CLAIMED"),
                ("creator", "k"),
                ("name", "nightly"),
                ("environment_id", "empty-environment"),
                ("created_after", "2026-01-02T03:04:05Z"),
                ("created_before", "2026-01-03T03:04:05+00:00"),
                ("updated_after", "2026-01-02T03:04:05.5Z"),
                ("q", "fix  flaky"),
                ("metadata[ticket]", "VIS-1"),
                ("automation_id", "a1"),
                ("ancestor_run_id", "parent"),
                ("sort_by", "title"),
                ("sort_order", "asc"),
                ("cursor", encode_cursor(cursor)),
                ("limit", "7"),
            ]
        )
    )
    assert query == RunQuery(
        states=(RunState.QUEUED, RunState.CLAIMED),
        equals=(("creator_id", "k"), ("name", "nightly"), ("environment_id", None)),
        created_after=parse_time("2026-01-02T03:04:05Z"),
        created_before=parse_time("2026-01-03T03:04:05Z"),
        updated_after=parse_time("2026-01-02T03:04:05.500Z"),
        search=("fix", "flaky"),
        metadata={"ticket": "VIS-1", "automation_id": "a1"},
        ancestor_run_id="parent",
        sort_by=SortBy.TITLE,
        descending=False,
        after=cursor,
        limit=7,
    )


@pytest.mark.parametrize(
    "query", ["schedule_id=s", "factory_uid=f", "artifact_type=PLAN", "execution_location=LOCAL"]
)
def test_a_filter_on_what_no_run_has_matches_nothing(query: str) -> None:
    assert parse_run_query(QueryParams(query)).nothing


def test_what_is_said_twice_is_looked_for_once() -> None:
    query = parse_run_query(QueryParams("state=QUEUED&state=ERROR&state=QUEUED&q=" + "+".join(["w"] * 1200)))
    assert (query.states, query.search) == ((RunState.QUEUED, RunState.ERROR), ("w",))
    assert len(parse_run_query(QueryParams("q=" + "+".join(f"w{n}" for n in range(32)))).search) == 32


def test_every_run_is_remote() -> None:
    assert not parse_run_query(QueryParams("execution_location=REMOTE")).nothing


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("stat=QUEUED", "stat: there is no such parameter"),
        ("state=DONE", "state: must be one of QUEUED, PENDING"),
        ("limit=0", "limit: must be a whole number from 1 to 500"),
        ("limit=501", "limit: must be"),
        ("limit=ten", "limit: must be"),
        ("limit=\N{ARABIC-INDIC DIGIT ONE}", "limit: must be"),
        ("sort_by=size", "sort_by: must be one of updated_at, created_at, title, agent"),
        ("sort_order=up", "sort_order: must be one of asc, desc"),
        ("created_after=yesterday", "created_after: "),
        ("created_after=2026-01-02T03:04:05", "created_after: has no offset from UTC"),
        ("cursor=x", "cursor: is not a cursor"),
        ("execution_location=MOON", "execution_location: must be one of LOCAL, REMOTE"),
        ("&".join(f"metadata[k{i}]=v" for i in range(6)), "metadata: at most 5"),
        # P8: what PostgreSQL refuses to compare, and more words than SQLite takes in one condition.
        ("title=a%00b", "title: contains a NUL character"),
        ("title=a&title=%00", "title: contains a NUL character"),
        ("q=a+%00", "q: contains a NUL character"),
        ("ancestor_run_id=%00", "ancestor_run_id: contains a NUL character"),
        ("metadata[k]=%00", "metadata[k]: contains a NUL character"),
        ("metadata[%00]=v", "metadata[?]: contains a NUL character"),
        ("cursor=%00", "cursor: contains a NUL character"),
        ("cursor=" + encode_cursor(Cursor("title", True, ("a\0", 1))), "cursor: is not a cursor"),
        ("q=" + "+".join(f"w{n}" for n in range(33)), "q: has 33 words, and 32 are allowed"),
        ("q=" + "+".join(f"w{n}" for n in range(1200)), "q: has 1200 words, and 32 are allowed"),
    ],
)
def test_refusals_name_the_parameter(query: str, detail: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_run_query(QueryParams(query))
    assert caught.value.status == 400
    assert caught.value.detail.startswith(detail)
