"""Every failure reason is explained, and the document shows it."""

import pytest

from oz_agent_worker.protocol.failure_guide import GUIDE
from oz_agent_worker.protocol.outcome import FailureReason
from scripts.docs.tables import failure_table


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_says_what_was_seen_what_it_means_and_the_mend(reason: FailureReason) -> None:
    entry = GUIDE[reason]
    assert entry.seen
    for sentence in (entry.means, entry.mend):
        assert sentence.endswith(".")
        assert "|" not in sentence
    assert f"| `{reason.value}` | {entry.seen} | {entry.means} | {entry.mend} |\n" in failure_table()
