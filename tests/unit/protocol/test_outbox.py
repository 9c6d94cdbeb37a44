import itertools
from collections.abc import Callable

from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
CLAIM_A, CLAIM_B = Claim(A), Claim(B)
END_A, END_B = TerminalReport(A, succeeded()), TerminalReport(B, succeeded())


class Sender:
    """Writes what is due of an outbox, a ping behind each time."""

    def __init__(self, *items: Claim | TerminalReport, clock: Callable[[], float] | None = None) -> None:
        self.outbox = Outbox(clock)
        self.barriers = itertools.count(1)
        for item in items:
            self.outbox.add(item)

    def send(self) -> tuple[int, dict[Claim | TerminalReport, str]]:
        """Its ping, and the items in the order of sending with their ack IDs."""
        barrier = next(self.barriers)
        return barrier, {item: ack_id for ack_id, item in self.outbox.due(barrier)}

    def pong(self, barrier: int, now: float = 0.0) -> list[TerminalReport]:
        """The peer answers a ping, and acknowledges nothing itself."""
        return self.outbox.confirm_barrier(barrier, terminal_too=True, now=now)

    def pong_before_acks(self, barrier: int, now: float = 0.0) -> list[TerminalReport]:
        """The peer answers a ping, and will acknowledge reports itself."""
        return self.outbox.confirm_barrier(barrier, terminal_too=False, now=now)


def test_an_empty_outbox_has_nothing_to_send() -> None:
    sender = Sender()
    assert (len(sender.outbox), sender.outbox.has_due, sender.outbox.unreported) == (0, False, 0)
    assert sender.send()[1] == {}


def test_entries_are_sent_once_in_order_and_kept() -> None:
    sender = Sender(CLAIM_A, CLAIM_B, END_A)
    assert list(sender.send()[1]) == [CLAIM_A, CLAIM_B, END_A]
    assert not sender.outbox.has_due
    assert sender.send()[1] == {}
    assert (len(sender.outbox), sender.outbox.unreported) == (3, 1)


def test_a_pong_delivers_what_was_sent_before_its_ping() -> None:
    sender = Sender(CLAIM_A, END_A)
    first, _ = sender.send()
    sender.outbox.add(END_B)
    second, _ = sender.send()
    assert sender.pong(first) == [END_A]
    assert len(sender.outbox) == 1
    assert sender.pong(first) == []
    assert sender.pong(second) == [END_B]
    assert len(sender.outbox) == 0


def test_one_ping_does_for_all_that_was_sent_before_it() -> None:
    sender = Sender(END_A)
    sender.outbox.due(barrier=7)
    sender.outbox.add(END_B)
    sender.outbox.due(barrier=7)
    assert sender.pong(6) == []
    assert sender.pong(7) == [END_A, END_B]


def test_a_pong_says_nothing_of_what_is_due() -> None:
    sender = Sender(END_A)
    assert sender.pong(10**9) == []
    assert sender.outbox.has_due


def test_a_new_connection_makes_everything_due_again_in_the_first_order() -> None:
    sender = Sender(CLAIM_A, END_A)
    barrier, _ = sender.send()
    sender.outbox.add(CLAIM_B)
    sender.outbox.reset()
    assert sender.pong(barrier) == []  # a pong of the last connection
    assert list(sender.send()[1]) == [CLAIM_A, END_A, CLAIM_B]


def test_with_acks_a_pong_delivers_claims_alone() -> None:
    sender = Sender(CLAIM_A, END_A)
    barrier, sent = sender.send()
    assert sender.pong_before_acks(barrier) == []
    assert len(sender.outbox) == 1
    assert sender.outbox.confirm(sent[END_A]) == [END_A]
    assert len(sender.outbox) == 0


def test_an_ack_of_the_report_delivers_the_claim_with_it() -> None:
    sender = Sender(CLAIM_A, CLAIM_B, END_A)
    _, sent = sender.send()
    assert sender.outbox.confirm(sent[END_A]) == [END_A]
    sender.outbox.reset()
    assert list(sender.send()[1]) == [CLAIM_B]


def test_an_ack_that_comes_late_or_twice_or_from_nowhere_is_harmless() -> None:
    sender = Sender(END_A)
    _, sent = sender.send()
    sender.outbox.reset()
    assert sender.outbox.confirm("nonsense") == []
    assert sender.outbox.confirm(sent[END_A]) == [END_A]  # it was due again
    assert sender.outbox.confirm(sent[END_A]) == []
    assert not sender.outbox.has_due


def test_ack_ids_of_two_executions_of_one_run_differ() -> None:
    first, second = ExecutionKey("run", "e1"), ExecutionKey("run", "e2")
    sender = Sender(TerminalReport(first, succeeded()), TerminalReport(second, succeeded()))
    assert len(set(sender.send()[1].values())) == 2


# ------------------------------------------------------------------ reports without an ack


def test_a_report_that_was_read_and_not_acknowledged_can_be_made_due_again() -> None:
    sender = Sender(CLAIM_A, END_A)
    barrier, sent = sender.send()
    sender.outbox.repeat(10**9)
    assert not sender.outbox.has_due  # not read, so it is still on its way
    sender.pong_before_acks(barrier, now=5.0)
    assert sender.outbox.awaiting_ack_since == 5.0
    sender.outbox.repeat(4.9)
    assert not sender.outbox.has_due
    sender.outbox.repeat(5.0)
    assert sender.send()[1] == {END_A: sent[END_A]}  # the same ID: the ack of either will do
    assert sender.outbox.confirm(sent[END_A]) == [END_A]
    assert len(sender.outbox) == 0


def test_the_report_that_was_read_first_is_repeated_first() -> None:
    sender = Sender(END_A)
    first, sent = sender.send()
    sender.outbox.add(END_B)
    second, _ = sender.send()
    sender.pong_before_acks(first, now=1.0)
    sender.pong_before_acks(second, now=2.0)
    sender.outbox.repeat(1.5)
    assert list(sender.send()[1]) == [END_A]
    assert sender.outbox.awaiting_ack_since == 2.0
    assert sender.outbox.confirm(sent[END_A]) == [END_A]
    assert sender.outbox.awaiting_ack_since == 2.0


def test_a_report_that_waits_for_its_ack_is_due_on_the_next_connection() -> None:
    sender = Sender(END_A)
    sender.pong_before_acks(sender.send()[0])
    sender.outbox.reset()
    assert sender.outbox.awaiting_ack_since is None
    assert list(sender.send()[1]) == [END_A]


# ---------------------------------------------------------------------------------- figures


def _figures(outbox: Outbox) -> tuple[int, float | None]:
    return outbox.unreported, outbox.oldest_unreported_at


def test_the_age_of_the_oldest_report_is_known() -> None:
    times = iter([10.0, 20.0])
    sender = Sender(CLAIM_A, END_A, CLAIM_B, END_B, clock=times.__next__)  # claims are not dated
    assert _figures(sender.outbox) == (2, 10.0)
    sent = sender.send()[1]
    sender.outbox.reset()
    assert _figures(sender.outbox) == (2, 10.0)
    sender.outbox.confirm(sent[END_A])
    assert _figures(sender.outbox) == (1, 20.0)
    sender.outbox.confirm(sent[END_B])
    assert _figures(sender.outbox) == (0, None)


def test_without_a_clock_no_age_is_known() -> None:
    assert _figures(Sender(END_A).outbox) == (1, None)
