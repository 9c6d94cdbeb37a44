import asyncio

from oz_agent_worker.controlplane.gateway.subscribers import Subscribers


async def test_a_follower_is_woken_once_for_many_changes() -> None:
    followers = Subscribers()
    with followers.follow("r") as follower:
        for _ in range(1000):
            followers.notify("r")
        assert await follower.changed(0)
        assert not await follower.changed(0)


async def test_only_followers_of_that_run_are_woken() -> None:
    followers = Subscribers()
    with followers.follow("r") as one, followers.follow("s") as other, followers.follow("r") as another:
        followers.notify("r")
        assert await one.changed(0)
        assert await another.changed(0)
        assert not await other.changed(0)


async def test_a_change_before_the_wait_is_not_lost() -> None:
    followers = Subscribers()
    with followers.follow("r") as follower:
        waiting = asyncio.create_task(follower.changed(5))
        followers.notify("r")
        assert await waiting


async def test_closing_sends_everyone_away_and_later_ones_too() -> None:
    followers = Subscribers()
    with followers.follow("r") as follower:
        waiting = asyncio.create_task(follower.changed(5))
        followers.close()
        assert await waiting
        assert follower.closed
    with followers.follow("r") as late:
        assert late.closed


def test_notifying_nobody_leaves_nothing_behind() -> None:
    followers = Subscribers()
    followers.notify("r")
    with followers.follow("r"):
        pass
    assert not followers._by_run
