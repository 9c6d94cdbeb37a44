import pytest

from tests.bench.errors import BenchError
from tests.bench.waiting import until


async def test_what_holds_already_is_not_waited_for() -> None:
    await until("so", lambda: True, timeout=0)


async def test_what_never_holds_says_how_far_it_came() -> None:
    with pytest.raises(BenchError, match="10 tasks: not so after 0 s, but 7"):
        await until("10 tasks", lambda: False, timeout=0, seen=lambda: 7)


async def test_waiting_ends_with_the_process_that_is_waited_for() -> None:
    def dead() -> None:
        raise BenchError("the worker ended")

    with pytest.raises(BenchError, match="the worker ended"):
        await until("so", lambda: False, dead, timeout=60)
