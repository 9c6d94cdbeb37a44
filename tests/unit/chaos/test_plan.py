import random
from itertools import islice

import pytest

from tests.chaos.plan import End, TaskPlan, kill_plans, parse_orders, task_plans
from tests.chaos.steps import Side, steps_of


def first(count: int, seed: int = 7, backend: str = "kubernetes") -> list[TaskPlan]:
    return list(islice(task_plans(random.Random(seed), backend), count))


def test_a_seed_decides_everything() -> None:
    assert first(200) == first(200)
    assert first(200) != first(200, seed=8)


def test_a_short_run_has_every_kind_of_end() -> None:
    assert {plan.end for plan in first(20)} == set(End)
    assert any(plan.safe_to_retry for plan in first(20))


def test_the_direct_backend_has_no_pods_that_could_fail() -> None:
    ends = {plan.end for plan in first(300, backend="direct")}
    assert ends == {End.SUCCESS, End.EXIT, End.NEVER}


def test_plain_tasks_end_by_themselves_and_one_way() -> None:
    plans = list(islice(task_plans(random.Random(7), "kubernetes", plain=True), 300))
    assert {plan.end for plan in plans} == {End.SUCCESS, End.EXIT}
    assert not any(plan.safe_to_retry or plan.cancel_after is not None for plan in plans)
    assert max(plan.seconds for plan in plans) < 3.0


def test_what_never_ends_is_cancelled() -> None:
    assert all(plan.cancel_after is not None for plan in first(500) if plan.end is End.NEVER)


@pytest.mark.parametrize("plan", first(40), ids=lambda plan: plan.orders)
def test_orders_are_read_back(plan: TaskPlan) -> None:
    read = parse_orders(f"--profile {plan.orders} --sandboxed")
    assert read is not None
    assert (read.number, read.end, read.exit_code) == (plan.number, plan.end, plan.exit_code)
    assert read.seconds == pytest.approx(plan.seconds, abs=0.01)


def test_other_text_holds_no_orders() -> None:
    assert parse_orders("--task-id 7") is None


@pytest.mark.parametrize("side", list(Side))
def test_sharp_steps_come_first_and_every_step_comes(side: Side) -> None:
    steps = steps_of(side, "kubernetes")
    plans = list(islice(kill_plans(random.Random(1), side, "kubernetes"), len(steps)))
    assert {plan.step for plan in plans} == set(steps)
    sharp = sum(step.sharp for step in steps)
    assert all(plan.step.sharp for plan in plans[:sharp])


def test_favourites_are_all_there_is_on_their_side() -> None:
    plans = list(islice(kill_plans(random.Random(1), Side.WORKER, "kubernetes", ["claim-sent"]), 9))
    assert {plan.step.name for plan in plans} == {"claim-sent"}
    others = list(islice(kill_plans(random.Random(1), Side.CONTROL_PLANE, "kubernetes", ["claim-sent"]), 9))
    assert len({plan.step.name for plan in others}) > 1


def test_a_step_that_comes_once_is_not_waited_for_twice() -> None:
    plans = list(islice(kill_plans(random.Random(1), Side.WORKER, "kubernetes"), 200))
    assert all(plan.count == 1 and plan.at_once for plan in plans if plan.step.early)
