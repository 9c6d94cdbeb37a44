from oz_agent_worker.controlplane.rules.capacity import Capacity
from oz_agent_worker.controlplane.times import micros

NOW = micros(1000)
S = micros(1)


def test_a_worker_that_says_nothing_is_unlimited() -> None:
    assert Capacity().free(1000, NOW) is None


def test_nothing_is_given_before_a_worker_could_say_hello() -> None:
    fresh = Capacity(ready_at=NOW + S)
    assert fresh.free(0, NOW) == 0
    assert fresh.free(0, NOW + S) is None
    assert fresh.sent_hello(3).free(0, NOW) == 3


def test_a_declared_limit_is_kept() -> None:
    capacity = Capacity().sent_hello(3)
    assert [capacity.free(n, NOW) for n in (0, 2, 3, 4)] == [3, 1, 0, 0]


def test_zero_declared_means_unlimited() -> None:
    assert Capacity().sent_hello(0).free(5000, NOW) is None


def test_a_rejection_teaches_the_limit_and_starts_a_pause() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.ready_at == NOW + S
    assert capacity.free(50, NOW) == 0
    assert capacity.free(49, NOW) == 1  # a slot that came free is used during the pause


def test_after_the_pause_one_run_probes() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.free(50, NOW + S) == 1
    assert capacity.free(51, NOW + S) == 0


def test_a_burst_of_rejections_is_one_pause_and_the_lowest_limit() -> None:
    capacity = Capacity()
    for left in range(199, 49, -1):
        capacity = capacity.rejected(left, NOW)
    assert (capacity.learned, capacity.ready_at) == (50, NOW + S)


def test_pauses_double_up_to_half_a_minute() -> None:
    capacity, now, pauses = Capacity(), NOW, []
    for _ in range(7):
        capacity = capacity.rejected(0, now)
        pauses.append((capacity.ready_at - now) // S)
        now = capacity.ready_at
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_the_end_of_a_run_resets_the_doubling() -> None:
    capacity = Capacity().rejected(5, NOW).rejected(5, NOW + 2 * S).ended(4)
    assert capacity.backoff == 0
    assert capacity.rejected(4, NOW + 60 * S).ready_at == NOW + 61 * S


def test_the_end_of_a_run_that_was_not_counted_allows_a_probe() -> None:
    # After a reconnection a public worker's runs are not known to be its own.
    assert Capacity().rejected(0, NOW).ended(0).free(0, NOW) == 1


def test_a_probe_that_is_claimed_raises_the_limit() -> None:
    capacity = Capacity().rejected(50, NOW).claimed(51)
    assert (capacity.learned, capacity.free(51, NOW)) == (51, 1)


def test_a_claim_within_the_limit_changes_nothing() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.claimed(50) is capacity
    assert Capacity().claimed(9) == Capacity()


def test_a_declared_limit_is_not_replaced_by_a_learned_one() -> None:
    capacity = Capacity().sent_hello(50).rejected(10, NOW)
    assert capacity.free(10, NOW) == 0
    assert capacity.free(10, NOW + S) == 40
    assert capacity.ended(9).free(9, NOW) == 41
