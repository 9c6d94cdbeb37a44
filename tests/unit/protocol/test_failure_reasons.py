"""Every failure reason is explained, and the document shows it."""

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason, Fault
from scripts.docs.tables import failure_table


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_says_what_was_seen_what_it_means_and_the_fix(reason: FailureReason) -> None:
    assert reason.seen
    for sentence in (reason.means, reason.fix):
        assert sentence.endswith(".")
        assert "|" not in sentence
    assert f"| `{reason.value}` | {reason.seen} | {reason.means} | {reason.fix} |\n" in failure_table()


@pytest.mark.parametrize("reason", FailureReason)
def test_a_failure_of_the_agent_is_not_retryable(reason: FailureReason) -> None:
    assert not (reason.fault is Fault.AGENT and reason.retryable)
