from oz_agent_worker.core.outbox import Claim, Outbox
from oz_agent_worker.core.outcome import succeeded
from oz_agent_worker.core.report import ExecutionKey, TerminalReport

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
CLAIM_A, CLAIM_B = Claim(A), Claim(B)
END_A, END_B = TerminalReport(A, succeeded()), TerminalReport(B, succeeded())


def _outbox(*items: Claim | TerminalReport) -> Outbox:
    outbox = Outbox()
    for item in items:
        outbox.add(item)
    return outbox


def _send(outbox: Outbox) -> tuple[int, dict[Claim | TerminalReport, str]]:
    """Send what is due; its barrier, and the items in the order of sending with their ack IDs."""
    barrier = outbox.next_barrier()
    return barrier, {item: ack_id for ack_id, item in outbox.due(barrier)}


def test_an_empty_outbox_has_nothing_to_send() -> None:
    outbox = Outbox()
    assert (len(outbox), outbox.has_due, outbox.unreported) == (0, False, 0)
    assert _send(outbox)[1] == {}


def test_entries_are_sent_once_in_order_and_kept() -> None:
    outbox = _outbox(CLAIM_A, CLAIM_B, END_A)
    assert list(_send(outbox)[1]) == [CLAIM_A, CLAIM_B, END_A]
    assert not outbox.has_due
    assert _send(outbox)[1] == {}
    assert (len(outbox), outbox.unreported) == (3, 1)


def test_a_pong_delivers_what_was_sent_before_its_ping() -> None:
    outbox = _outbox(CLAIM_A, END_A)
    first, _ = _send(outbox)
    outbox.add(END_B)
    second, _ = _send(outbox)
    assert outbox.confirm_barrier(first, terminal_too=True) == [END_A]
    assert len(outbox) == 1
    assert outbox.confirm_barrier(first, terminal_too=True) == []
    assert outbox.confirm_barrier(second, terminal_too=True) == [END_B]
    assert len(outbox) == 0


def test_a_pong_says_nothing_of_what_is_due() -> None:
    outbox = _outbox(END_A)
    assert outbox.confirm_barrier(10**9, terminal_too=True) == []
    assert outbox.has_due


def test_a_new_connection_makes_everything_due_again_in_the_first_order() -> None:
    outbox = _outbox(CLAIM_A, END_A)
    barrier, _ = _send(outbox)
    outbox.add(CLAIM_B)
    outbox.reset()
    assert outbox.confirm_barrier(barrier, terminal_too=True) == []  # a pong of the last connection
    assert list(_send(outbox)[1]) == [CLAIM_A, END_A, CLAIM_B]


def test_with_acks_a_pong_delivers_claims_alone() -> None:
    outbox = _outbox(CLAIM_A, END_A)
    barrier, sent = _send(outbox)
    assert outbox.confirm_barrier(barrier, terminal_too=False) == []
    assert len(outbox) == 1
    assert outbox.confirm(sent[END_A]) == [END_A]
    assert len(outbox) == 0


def test_an_ack_of_the_report_delivers_the_claim_with_it() -> None:
    outbox = _outbox(CLAIM_A, CLAIM_B, END_A)
    _, sent = _send(outbox)
    assert outbox.confirm(sent[END_A]) == [END_A]
    outbox.reset()
    assert list(_send(outbox)[1]) == [CLAIM_B]


def test_an_ack_that_comes_late_or_twice_or_from_nowhere_is_harmless() -> None:
    outbox = _outbox(END_A)
    _, sent = _send(outbox)
    outbox.reset()
    assert outbox.confirm("nonsense") == []
    assert outbox.confirm(sent[END_A]) == [END_A]  # it was due again
    assert outbox.confirm(sent[END_A]) == []
    assert not outbox.has_due


def test_ack_ids_tell_two_executions_of_one_run_apart() -> None:
    first, second = ExecutionKey("run", "e1"), ExecutionKey("run", "e2")
    outbox = _outbox(TerminalReport(first, succeeded()), TerminalReport(second, succeeded()))
    _, sent = _send(outbox)
    assert len(set(sent.values())) == 2


def test_an_entry_that_is_delivered_while_an_earlier_one_is_written_is_not_sent() -> None:
    outbox = _outbox(END_A, END_B)
    _, sent = _send(outbox)
    outbox.reset()
    writing = outbox.due(outbox.next_barrier())
    assert next(writing)[1] == END_A
    assert outbox.confirm(sent[END_B]) == [END_B]
    assert list(writing) == []
