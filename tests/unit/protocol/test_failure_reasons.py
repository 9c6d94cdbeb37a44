"""Every failure reason is explained, and the document shows it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_reasons import NAMED_OTHERWISE, FailureReason, Fault
from scripts.docs.tables import failure_table, public_reasons_table

from .public_schema import FAILURE_REASONS

SOURCE = Path(__file__).parents[3] / "src" / "oz_agent_worker"
TESTS = Path(__file__).parents[2]
#: Public reasons that no part of this package gives: other workers do, and the backends that are to come.
OF_OTHERS = {
    FailureReason.CANCEL_COMMAND,
    FailureReason.CONTAINER_WAIT,
    FailureReason.DISPATCH_COMMAND,
    FailureReason.DISPATCH_TIMEOUT,
    FailureReason.JOB_WATCH,
    FailureReason.POD_WATCH,
    FailureReason.TASK_CANCELLED,
    FailureReason.TASK_TIMEOUT,
    FailureReason.TEARDOWN_COMMAND,
}


@pytest.mark.parametrize("reason", FailureReason)
def test_an_entry_is_complete(reason: FailureReason) -> None:
    assert reason.seen
    for sentence in (reason.means, reason.fix):
        assert sentence.endswith(".")
        assert "|" not in sentence
    assert f"| `{reason.value}` | {reason.seen} | {reason.means} | {reason.fix} |\n" in failure_table()


@pytest.mark.parametrize("reason", FailureReason)
def test_a_run_may_be_tried_again_unless_its_agent_or_its_user_ended_it(reason: FailureReason) -> None:
    final = {FailureReason.TASK_CANCELLED, FailureReason.INVALID_IMAGE}
    assert reason.retryable is (reason.fault is Fault.INFRASTRUCTURE and reason not in final)


def test_every_reason_of_the_public_protocol_is_known() -> None:
    assert set(FailureReason) >= FAILURE_REASONS


@pytest.mark.parametrize("reason", FailureReason)
def test_a_reason_counts_as_one_of_the_public_protocol(reason: FailureReason) -> None:
    assert reason.public in FAILURE_REASONS
    assert (reason.public == reason) is (reason in FAILURE_REASONS)
    row = f"| {reason.seen} | `{reason}` | `{reason.public}` | `{reason.public}` |\n"
    assert (row in public_reasons_table()) is (reason not in FAILURE_REASONS)


@pytest.mark.parametrize("own", [reason for reason in FailureReason if reason not in FAILURE_REASONS])
def test_what_may_be_tried_again_is_not_lost_by_the_public_name(own: FailureReason) -> None:
    (public,) = (reason for reason in FailureReason if reason == own.public)
    assert (public.fault, public.retryable) == (own.fault, own.retryable)


def test_what_the_public_worker_names_otherwise_is_public_on_both_sides() -> None:
    for difference in NAMED_OTHERWISE:
        assert {difference.here, difference.there} <= FAILURE_REASONS
        assert f"| {difference.seen} | `{difference.here}` |" in public_reasons_table()
    agent = NAMED_OTHERWISE[0]
    assert (agent.here, agent.there) == (FailureReason.CONTAINER_EXIT, FailureReason.AGENT_INVOCATION)


def given_in(node: ast.AST) -> Iterator[str]:
    """Yield the names of the reasons that code gives; what it only compares with is not given."""
    if isinstance(node, ast.Compare | ast.match_case):
        return
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "FailureReason"
    ):
        yield node.attr
    for child in ast.iter_child_nodes(node):
        yield from given_in(child)


def test_every_reason_is_given_somewhere() -> None:
    given = {name for path in SOURCE.rglob("*.py") for name in given_in(ast.parse(path.read_text()))}
    assert {reason.name for reason in FailureReason} - given == {reason.name for reason in OF_OTHERS}


def test_every_reason_that_is_given_is_tested() -> None:
    texts = [path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    untested = [
        reason.name
        for reason in FailureReason
        if reason not in OF_OTHERS
        and not any(f"FailureReason.{reason.name}" in text or f'"{reason.value}"' in text for text in texts)
    ]
    assert untested == []
