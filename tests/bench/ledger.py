"""What became of each task, and when. Times are seconds of one monotonic clock, and arguments."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CANCELLED", "COMPLETED", "FAILED", "Ledger"]

COMPLETED = "COMPLETED"
CANCELLED = "CANCELLED"
FAILED = "FAILED"


@dataclass(slots=True)
class _Record:
    assigned: float
    claimed: float | None = None
    ended: float | None = None
    reported: float | None = None
    state: str = ""


class Ledger:
    """The tasks of one phase. ``problems`` has a line for whatever should not have happened."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self.problems: list[str] = []
        self.claims = 0
        self.reports = 0
        self.repeated = 0
        """Reports that came again, which a peer must expect: delivery is at least once."""

    def assigned(self, task_id: str, now: float) -> None:
        """A task was written to the worker."""
        self._records[task_id] = _Record(now)

    def claimed(self, task_id: str, now: float) -> None:
        """The worker took a task."""
        record = self._known(task_id, "claimed")
        if record is None:
            return
        if record.claimed is None:
            record.claimed = now
            self.claims += 1
        else:
            self.problems.append(f"{task_id} was claimed twice")

    def rejected(self, task_id: str, reason: str) -> None:
        """The worker handed a task back, which no phase gives it a reason to."""
        self.problems.append(f"{task_id} was rejected: {reason}")

    def ended(self, task_id: str, now: float) -> None:
        """The task's Job was seen to end; the first time counts."""
        record = self._records.get(task_id)
        if record is not None and record.ended is None:
            record.ended = now

    def reported(self, task_id: str, state: str, now: float) -> None:
        """The worker reported how a task ended."""
        record = self._known(task_id, "reported")
        if record is None:
            return
        if record.claimed is None:
            self.problems.append(f"{task_id} was reported and never claimed")
        if record.reported is None:
            record.reported, record.state = now, state
            self.reports += 1
        elif record.state == state:
            self.repeated += 1
        else:
            self.problems.append(f"{task_id} was reported as {record.state} and as {state}")

    def claiming_time(self) -> float:
        """Seconds from the first assignment to the last claim."""
        claims = [r.claimed for r in self._records.values() if r.claimed is not None]
        return max(claims) - min(r.assigned for r in self._records.values())

    def latencies(self, task_ids: Iterable[str]) -> list[float]:
        """Seconds from each Job's end to its report, of those tasks that have both.

        Where the report was faster than the news of the Job's end, that is none.
        """
        records = (self._records[task_id] for task_id in task_ids)
        return [max(0.0, r.reported - r.ended) for r in records if r.reported is not None and r.ended]

    def reported_ids(self) -> set[str]:
        """The tasks whose end was reported."""
        return {task_id for task_id, record in self._records.items() if record.reported is not None}

    def check(self, state: str) -> list[str]:
        """Say what is wrong, given that every task should have ended in ``state``."""
        lost = sum(r.reported is None for r in self._records.values())
        wrong = Counter(
            r.state for r in self._records.values() if r.reported is not None and r.state != state
        )
        found = [f"{lost} tasks were never reported"] if lost else []
        found += [f"{count} tasks ended as {other}, not as {state}" for other, count in wrong.items()]
        return found + self.problems

    def _known(self, task_id: str, what: str) -> _Record | None:
        record = self._records.get(task_id)
        if record is None:
            self.problems.append(f"{task_id} was {what} and never assigned")
        return record
