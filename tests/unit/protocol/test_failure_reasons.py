"""Every failure reason is explained, and the document shows it."""

import ast
from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason, Fault
from scripts.docs.tables import failure_table

SOURCE = Path(__file__).parents[3] / "src" / "oz_agent_worker"
#: Public reasons that no part of this package gives: other workers do, and the backends that are to come.
OF_OTHERS = {
    FailureReason.CANCEL_COMMAND,
    FailureReason.CONTAINER_WAIT,
    FailureReason.DISPATCH_COMMAND,
    FailureReason.DISPATCH_TIMEOUT,
    FailureReason.JOB_WATCH,
    FailureReason.POD_WATCH,
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


def test_every_reason_is_given_somewhere() -> None:
    given = {
        node.attr
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "FailureReason"
    }
    assert {reason.name for reason in FailureReason} - given == {reason.name for reason in OF_OTHERS}
