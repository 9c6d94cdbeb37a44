"""Quotations of the cluster: one line, bounded, the telling end kept."""

import pytest

from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.status.messages import (
    MAX_QUOTE,
    capitalized,
    cluster_message,
    quote_cluster,
    task_text,
)


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
def test_the_cluster_is_quoted(reason: str | None, message: str | None, quote: str) -> None:
    assert quote_cluster(reason, message) == quote


def test_a_long_message_keeps_its_end() -> None:
    quote = quote_cluster(None, "noise " * 500 + "the cause")
    assert quote.startswith(" (…")
    assert quote.endswith("the cause)")
    assert len(quote) == MAX_QUOTE + 3


def test_a_quotation_may_be_given_more_room() -> None:
    message = "x" * 900
    assert cluster_message(None, message, limit=1000) == message
    assert len(cluster_message(None, message, limit=500)) == 500


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, None),
        (" \n", None),
        ("no such\n host.\n", TaskText("no such host")),
        ("noise " * 500 + "the cause", TaskText("…" + ("noise " * 500 + "the cause")[1 - MAX_QUOTE :])),
    ],
)
def test_the_task_s_own_text(message: str | None, words: TaskText | None) -> None:
    assert task_text(message) == words


def test_a_sentence_begins_with_a_capital_letter() -> None:
    assert capitalized("the Pod `a`") == "The Pod `a`"
    assert capitalized("") == ""
