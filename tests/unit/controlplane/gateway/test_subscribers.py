import asyncio

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.controlplane.gateway.subscribers import Subscribers


async def test_a_follower_is_woken_once_for_many_changes() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as changed:
        for _ in range(1000):
            subscribers.notify("r")
        assert changed.is_set()
        changed.clear()
        assert not changed.is_set()


async def test_only_followers_of_that_run_are_woken() -> None:
    subscribers = Subscribers()
    with (
        subscribers.subscribe("r") as one,
        subscribers.subscribe("s") as other,
        subscribers.subscribe("r") as another,
    ):
        subscribers.notify("r")
        assert one.is_set()
        assert another.is_set()
        assert not other.is_set()


async def test_a_change_before_the_wait_is_not_lost() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as changed:
        waiting = asyncio.create_task(wait_for_event(changed, 5))
        subscribers.notify("r")
        assert await waiting


async def test_closing_sends_everyone_away_and_later_ones_too() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as changed:
        waiting = asyncio.create_task(wait_for_event(changed, 5))
        subscribers.close()
        assert await waiting
    assert subscribers.closed


def test_notifying_without_subscribers_leaves_nothing_behind() -> None:
    subscribers = Subscribers()
    subscribers.notify("r")
    with subscribers.subscribe("r"):
        pass
    assert not subscribers._by_run
