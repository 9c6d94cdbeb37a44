"""Every failure reason is explained, and the document shows it."""

from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_guide import GUIDE, guide_table
from oz_agent_worker.protocol.outcome import FailureReason

DOCUMENT = Path(__file__).parents[3] / "docs" / "failure-reasons.md"


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_says_what_was_seen_what_it_means_and_the_mend(reason: FailureReason) -> None:
    entry = GUIDE[reason]
    assert entry.seen
    for sentence in (entry.means, entry.mend):
        assert sentence.endswith(".")
        assert "|" not in sentence
    assert f"| `{reason.value}` | {entry.seen} | {entry.means} | {entry.mend} |\n" in guide_table()


def test_the_document_shows_the_guide_as_it_is() -> None:
    assert guide_table() in DOCUMENT.read_text(), "run `make docs`"
