from typing import Any

import pytest
from sqlalchemy import Connection, event

from oz_agent_worker.controlplane.store import lease_queries, queue, runs
from oz_agent_worker.controlplane.store.in_list import padded

from .support import PUBLIC, T0, add_run


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("", ""),
        ("a", "a"),
        ("ab", "ab"),
        ("abc", "abcc"),
        ("abcde", "abcdeeee"),
        ("abcdefgh", "abcdefgh"),
    ],
)
def test_the_last_is_repeated_up_to_a_power_of_two(ids: str, expected: str) -> None:
    assert padded(ids) == list(expected)


def test_operations_on_any_number_of_runs_are_few_statements(connection: Connection) -> None:
    """What a driver keeps by a statement's text does not grow with the lengths that lists happen to have."""
    texts: set[str] = set()

    @event.listens_for(connection, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        texts.add(statement)

    ids = [add_run(connection, metadata={"n": str(number)}) for number in range(33)]
    texts.clear()
    for number in range(1, 34):
        some = ids[:number]
        assert [run.id for run in runs.get_all(connection, some)] == some
        assert runs.metadata_of(connection, some) == {id_: {"n": str(n)} for n, id_ in enumerate(some)}
        queue.extend_deadline(connection, some, T0, T0, T0)
        lease_queries.begin(connection, some, T0, T0)
        lease_queries.clear(connection, some)
        lease_queries.set_owner(connection, some, PUBLIC)
        assert queue.queued(connection, T0, some, 1)
        assert lease_queries.orphans(connection, some) == []
    assert len(texts) <= 8 * 7  # eight operations; 1, 2, 4, 8, 16, 32 and 64 IDs
