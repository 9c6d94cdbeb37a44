"""Renders an explanation as text: the answer first, then the evidence. Pure."""

from collections.abc import Iterator
from datetime import datetime

from oz_agent_worker.common.durations import short_span

from .explain import Explanation
from .task_state import State
from .timeline import TimelineEntry

__all__ = ["render_text"]


def render_text(explanation: Explanation, now: datetime) -> str:
    """Write the explanation; its first line is the headline. Ages count to ``now``."""
    return "\n".join(_lines(explanation, now))


def _lines(explanation: Explanation, now: datetime) -> Iterator[str]:
    yield explanation.headline
    if explanation.advice:
        yield f"  To do: {explanation.advice}."
    if explanation.outlook:
        yield f"  Outlook: {explanation.outlook}."
    yield ""
    if explanation.state is State.GONE:
        yield f"Job {explanation.job}, namespace {explanation.namespace}"
    else:
        worker = explanation.worker or "unknown"
        yield f"Execution {explanation.execution_id} of worker {worker}, namespace {explanation.namespace}"
    if explanation.owner:
        yield f"Created by {explanation.owner}"
    yield "Evidence:"
    rows = [(_age(item, now), item.about, item.text) for item in explanation.evidence]
    ages, subjects = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    for age, about, text in rows:
        yield f"  {age:<{ages}}   {about:<{subjects}}   {text}"


def _age(entry: TimelineEntry, now: datetime) -> str:
    if entry.at is None:
        return "-"
    return short_span((now - datetime.fromisoformat(entry.at)).total_seconds())
