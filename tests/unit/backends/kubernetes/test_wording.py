"""Quotations of the cluster: one line, bounded, the telling end kept."""

import pytest

from oz_agent_worker.backends.kubernetes.wording import MAX_QUOTE, said


@pytest.mark.parametrize(
    ("reason", "message", "quote"),
    [
        (None, None, ""),
        (None, "  \n", ""),
        ("Error", None, " (Error)"),
        (None, "why.", " (why)"),
        ("Error", "two\n lines", " (Error: two lines)"),
    ],
)
def test_said(reason: str | None, message: str | None, quote: str) -> None:
    assert said(reason, message) == quote


def test_a_long_message_keeps_its_end() -> None:
    quote = said(None, "noise " * 500 + "the cause")
    assert quote.startswith(" (…")
    assert quote.endswith("the cause)")
    assert len(quote) == MAX_QUOTE + 3
