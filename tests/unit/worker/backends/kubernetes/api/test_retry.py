"""Retries and grace periods, in virtual time."""

import asyncio
import itertools
import time as clocks
from collections.abc import Awaitable, Callable, Iterable

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    NotFoundError,
    Status,
    TooManyRequestsError,
    UnreachableError,
    status_error,
)
from oz_agent_worker.worker.backends.kubernetes.api.retry import (
    ONCE,
    GracePeriod,
    RetryPolicy,
    delays,
    is_about_the_worker,
    is_missing_permission,
    retry_until_decided,
    retrying,
)
from tests.virtual_time import START, in_virtual_time

NO_ROLE = 'jobs.batch is forbidden: User "bot" cannot list resource "jobs" in API group "batch"'
QUOTA = 'pods "task" is forbidden: exceeded quota: small'


class VirtualTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def longest(low: float, high: float) -> float:
    assert low == 0
    return high


def failing(errors: Iterable[ApiError], result: str = "done") -> Callable[[], Awaitable[str]]:
    remaining = iter(errors)

    async def attempt() -> str:
        for error in remaining:
            raise error
        return result

    return attempt


def unreachable() -> ApiError:
    return UnreachableError("https://k8s", "connection refused")


def throttled(retry_after: float | None) -> ApiError:
    return TooManyRequestsError(429, "TooManyRequests", "slow", verb="get", path="/", retry_after=retry_after)


async def run(
    attempt: Callable[[], Awaitable[str]], policy: RetryPolicy, time: VirtualTime | None = None
) -> str:
    time = time or VirtualTime()
    return await retrying(attempt, policy, clock=time.clock, sleep=time.sleep, jitter=longest)


def test_the_ceiling_of_the_delays_doubles_up_to_the_longest() -> None:
    ceilings = delays(RetryPolicy(first=0.5, longest=3.0), longest)
    assert list(itertools.islice(ceilings, 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_delay_is_anywhere_between_nothing_and_its_ceiling() -> None:
    drawn = [next(delays(RetryPolicy(first=1.0))) for _ in range(200)]
    assert all(0 <= delay <= 1 for delay in drawn)
    assert min(drawn) < 0.3
    assert max(drawn) > 0.7


async def test_what_may_heal_is_tried_again() -> None:
    time = VirtualTime()
    assert await run(failing([unreachable()] * 3), RetryPolicy(first=1.0), time) == "done"
    assert time.slept == [1.0, 2.0, 4.0]


async def test_what_cannot_heal_is_not() -> None:
    time = VirtualTime()
    with pytest.raises(NotFoundError):
        await run(failing([NotFoundError(404, "NotFound", "no", verb="get", path="/")]), RetryPolicy(), time)
    assert time.slept == []


async def test_the_servers_retry_after_is_the_least_delay() -> None:
    time = VirtualTime()
    await run(failing([throttled(7.0), throttled(None)]), RetryPolicy(first=1.0, longest=60.0), time)
    assert time.slept == [7.0, 2.0]


async def test_the_budget_ends_it_with_the_last_error_and_no_pointless_sleep() -> None:
    time = VirtualTime()
    errors = [UnreachableError("https://k8s", str(n)) for n in range(10)]
    with pytest.raises(UnreachableError, match=r"2$"):
        await run(failing(errors), RetryPolicy(budget=3.5, first=1.0), time)
    assert time.slept == [1.0, 2.0]


async def test_the_budget_counts_from_the_first_failure() -> None:
    time = VirtualTime()

    async def queued_for_long() -> str:
        time.now += 100 if not time.slept else 0
        if not time.slept:
            raise unreachable()
        return "done"

    assert await run(queued_for_long, RetryPolicy(budget=10.0, first=1.0), time) == "done"


async def test_once_is_once() -> None:
    with pytest.raises(UnreachableError):
        await retrying(failing([unreachable()]), ONCE, jitter=lambda low, high: 0.0)


async def test_a_retry_after_beyond_the_budget_is_not_waited_for() -> None:
    time = VirtualTime()
    with pytest.raises(TooManyRequestsError):
        await run(failing([throttled(60.0)]), RetryPolicy(budget=30.0), time)
    assert time.slept == []


def refusal(code: int, message: str) -> ApiError:
    return status_error(code, Status(code=code, message=message), verb="list", path="/p")


@pytest.mark.parametrize(
    ("error", "permission", "worker"),
    [
        (refusal(403, NO_ROLE), True, True),
        (refusal(403, QUOTA), False, False),
        (refusal(401, "Unauthorized"), False, True),
        (refusal(422, NO_ROLE), False, False),
        (UnreachableError("https://k8s", "refused"), False, False),
    ],
)
def test_what_a_refusal_is_about(error: ApiError, permission: bool, worker: bool) -> None:
    assert is_missing_permission(error) is permission
    assert is_about_the_worker(error) is worker


def test_a_missing_permission_is_believed_when_it_has_lasted() -> None:
    time = VirtualTime()
    grace = GracePeriod(5.0, time.clock)
    time.now += 60
    assert grace.covers(refusal(403, NO_ROLE))
    time.now += 4.9
    assert grace.covers(refusal(403, NO_ROLE))
    time.now += 0.1
    assert not grace.covers(refusal(403, NO_ROLE))
    time.now += 3600
    assert not grace.covers(refusal(403, NO_ROLE))


def test_what_was_allowed_in_between_starts_the_time_again() -> None:
    time = VirtualTime()
    grace = GracePeriod(5.0, time.clock)
    assert grace.covers(refusal(403, NO_ROLE))
    time.now += 5
    grace.reset()
    assert grace.covers(refusal(403, NO_ROLE))


def test_anything_else_is_believed_and_starts_nothing() -> None:
    time = VirtualTime()
    grace = GracePeriod(5.0, time.clock)
    assert not grace.covers(refusal(403, QUOTA))
    time.now += 5
    assert grace.covers(refusal(403, NO_ROLE))


def test_without_patience_everything_is_believed_at_once() -> None:
    assert not GracePeriod(0.0).covers(refusal(403, NO_ROLE))


def test_a_grace_period_ends_for_what_comes_after_the_next_pause() -> None:
    time = VirtualTime()
    grace = GracePeriod(5.0, time.clock)
    assert not grace.is_over(ahead=4.9)
    assert grace.is_over(ahead=5.0)
    time.now += 5
    assert grace.is_over()


class Asked:
    """A request that fails with these errors, one each time, and then succeeds."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self.times: list[float] = []

    async def __call__(self) -> None:
        self.times.append(clocks.monotonic() - START)
        if self.errors:
            raise self.errors.pop(0)


@in_virtual_time
async def test_what_something_depends_on_is_sent_until_the_server_decides() -> None:
    asked = Asked(*[unreachable()] * 50)
    await retry_until_decided(asked, "Deletion of Job j", patience=5.0)
    assert len(asked.times) == 51


@in_virtual_time
async def test_a_refusal_of_the_object_is_a_decision() -> None:
    asked = Asked(unreachable(), refusal(422, "invalid"))
    with pytest.raises(ApiError, match="invalid"):
        await retry_until_decided(asked, "Secret s", patience=5.0)
    assert len(asked.times) == 2


@pytest.mark.parametrize("error", [refusal(403, NO_ROLE), refusal(401, "Unauthorized")])
def test_a_refusal_of_the_worker_is_one_after_a_while(error: ApiError) -> None:
    @in_virtual_time
    async def run() -> None:
        asked = Asked(*[error] * 100)
        with pytest.raises(ApiError):
            await retry_until_decided(asked, "Secret s", patience=5.0)
        assert asked.times == pytest.approx([0, 1, 2, 3, 4, 5])

    run()


@in_virtual_time
async def test_what_is_not_wanted_any_more_is_not_sent() -> None:
    asked = Asked(*[unreachable()] * 50)
    await retry_until_decided(asked, "Deletion of Job j", patience=5.0, wanted=lambda: len(asked.times) < 3)
    assert len(asked.times) == 3


@in_virtual_time
async def test_k15_a_request_that_is_tried_for_hours_is_said_and_then_once_an_hour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began = clocks.monotonic()

    async def send() -> None:
        await asyncio.sleep(30)
        raise unreachable()

    def wanted() -> bool:
        return clocks.monotonic() - began < 6.5 * 3600

    await retry_until_decided(send, "Deletion of Job j", patience=5.0, wanted=wanted)
    assert caplog.messages[0].startswith("Deletion of Job j failed and is tried again: the API server")
    assert len(caplog.messages) == 1 + 6
