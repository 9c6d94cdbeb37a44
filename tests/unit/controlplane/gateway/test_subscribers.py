import asyncio

from oz_agent_worker.controlplane.gateway.subscribers import Subscribers


async def test_a_follower_is_woken_once_for_many_changes() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as subscriber:
        for _ in range(1000):
            subscribers.notify("r")
        assert await subscriber.changed(0)
        assert not await subscriber.changed(0)


async def test_only_followers_of_that_run_are_woken() -> None:
    subscribers = Subscribers()
    with (
        subscribers.subscribe("r") as one,
        subscribers.subscribe("s") as other,
        subscribers.subscribe("r") as another,
    ):
        subscribers.notify("r")
        assert await one.changed(0)
        assert await another.changed(0)
        assert not await other.changed(0)


async def test_a_change_before_the_wait_is_not_lost() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as subscriber:
        waiting = asyncio.create_task(subscriber.changed(5))
        subscribers.notify("r")
        assert await waiting


async def test_closing_sends_everyone_away_and_later_ones_too() -> None:
    subscribers = Subscribers()
    with subscribers.subscribe("r") as subscriber:
        waiting = asyncio.create_task(subscriber.changed(5))
        subscribers.close()
        assert await waiting
        assert subscriber.closed
    with subscribers.subscribe("r") as late:
        assert late.closed


def test_notifying_nobody_leaves_nothing_behind() -> None:
    subscribers = Subscribers()
    subscribers.notify("r")
    with subscribers.subscribe("r"):
        pass
    assert not subscribers._by_run
