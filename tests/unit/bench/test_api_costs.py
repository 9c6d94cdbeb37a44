from typing import Any

from tests.bench.api_costs import count_costs
from tests.cluster.audit import AuditEntry


def entry(verb: str, resource: str = "jobs", **changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "id": "1",
        "verb": verb,
        "user": "worker",
        "resource": resource,
        "subresource": "",
        "namespace": "n",
        "name": "",
        "code": 200,
        "request_uri": f"/{resource}?limit=500",
        "stage": "ResponseComplete",
        "user_agent": "oz-agent-worker/1",
        "received": "2026-01-31T12:00:00.000000Z",
    }
    return AuditEntry(**values | changes)


START = [
    entry("list", id="s1"),
    entry("list", "pods", id="s2"),
    entry("watch", id="s3", stage="ResponseStarted"),
    entry("watch", "pods", id="s4", stage="ResponseStarted"),
]
BEFORE = {"s1", "s2", "s3", "s4"}


def test_a_task_that_costs_what_it_may() -> None:
    costs = count_costs([*START, entry("create"), entry("delete")], BEFORE)
    assert (costs.changes, costs.reads, costs.checks, costs.refused) == (2, 0, 0, 0)
    assert (costs.watches_open, costs.watches_started) == (2, 2)


def test_what_the_start_took_is_no_tasks_cost() -> None:
    preflight = [entry("create", id="p1"), entry("get", id="p2"), entry("delete", id="p3")]
    costs = count_costs([*preflight, *START, entry("create")], {*BEFORE, "p1", "p2", "p3"})
    assert (costs.changes, costs.reads) == (1, 0)
    assert costs.by_verb == {("create", "jobs"): 1, ("watch", "jobs"): 1, ("watch", "pods"): 1}


def test_a_read_counts_but_a_log_is_none() -> None:
    costs = count_costs([*START, entry("get"), entry("get", "pods", subresource="log")], BEFORE)
    assert costs.reads == 1
    assert costs.by_verb["get", "pods/log"] == 1


def test_a_list_that_is_repeated_is_a_read_and_one_from_the_cache_is_a_check() -> None:
    cached = entry("list", request_uri="/jobs?resourceVersion=0")
    costs = count_costs([*START, entry("list", "pods"), cached], BEFORE)
    assert (costs.reads, costs.checks) == (1, 1)


def test_a_watch_that_was_taken_up_again_is_open_once() -> None:
    costs = count_costs([*START, entry("watch", stage="ResponseComplete")], BEFORE)
    assert (costs.watches_open, costs.watches_started) == (2, 3)


def test_what_the_server_refused_is_counted_as_a_request_all_the_same() -> None:
    costs = count_costs([*START, entry("create", code=409), entry("create", code=201)], BEFORE)
    assert (costs.changes, costs.refused) == (2, 1)


def test_the_rows_say_how_often_a_task() -> None:
    head, create, *_ = count_costs([*START, entry("create"), entry("create")], BEFORE).rows(4)
    assert head.split() == ["verb", "resource", "requests", "a", "task"]
    assert create.split() == ["create", "jobs", "2", "0.500"]
