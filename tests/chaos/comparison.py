"""The comparison of three ledgers: what was submitted, what ran, what the control plane says. Pure.

Kills may turn a planned end into another only where ``_may_degrade`` says so; such runs are
counted apart. So are those for which the Job controller made a second Pod of one Job: an API
server that is killed before it answers the creation of the first makes it do so, and
Kubernetes says of Jobs that "the same program may sometimes be started twice"
(Kubernetes documentation, Jobs, "Handling Pod and container failures").
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .plan import End, TaskPlan
from .records import Record

__all__ = ["AFTERMATH", "Bad", "Comparison", "RunView", "Submission", "compare"]

#: For how many seconds after the API server was killed the Job controller acts on what it missed: the
#: outage itself, and the pauses of its requests and watches after it.
AFTERMATH: Final = 30.0

TERMINAL: Final = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"})

#: The reasons with which a control plane ends a run whose worker does not have it any more.
LOST_REASONS: Final = frozenset({"worker_lost"})
#: With which the direct backend reports a task that its worker's death has ended.
INTERRUPTED_REASONS: Final = frozenset({"worker_lost", "graceful_shutdown", "worker_restarted"})


@dataclass(frozen=True, slots=True)
class Submission:
    """A task that was submitted; ``cancelled``: the control plane has taken a cancellation of it."""

    plan: TaskPlan
    run_id: str
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as the control plane shows it at the end."""

    run_id: str
    title: str
    state: str
    error_code: str | None = None
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Bad:
    """A run that is not as it should be."""

    run_id: str
    title: str
    why: str


@dataclass(slots=True)
class Comparison:
    """What is wrong, by kind; ``degraded`` and ``doubled`` are not wrong."""

    lost: list[Bad] = field(default_factory=list)
    ran_twice: list[Bad] = field(default_factory=list)
    wrong_state: list[Bad] = field(default_factory=list)
    degraded: list[Bad] = field(default_factory=list)
    doubled: list[Bad] = field(default_factory=list)

    @property
    def bad(self) -> list[Bad]:
        """All that is wrong."""
        return [*self.lost, *self.ran_twice, *self.wrong_state]


def compare(
    submissions: Iterable[Submission],
    records: Iterable[Record],
    runs: Iterable[RunView],
    *,
    backend: str,
    outages: Sequence[float] = (),
    aftermath: float = AFTERMATH,
) -> Comparison:
    """Judge every submission, and every start of a container.

    ``outages`` are the times at which the API server was killed, in the records' seconds;
    ``aftermath`` is for how many seconds after each the Job controller acts on what it missed.
    """
    by_id = {run.run_id: run for run in runs}
    starts = _starts(records)
    comparison = Comparison()
    submitted: set[str] = set()
    for submission in submissions:
        submitted.add(submission.run_id)
        own = starts.get(submission.run_id, {})
        doubled = False
        for why, excused in _doubled(submission.plan, own, outages, aftermath):
            (comparison.doubled if excused else comparison.ran_twice).append(_bad(submission, why))
            doubled = doubled or excused
        _judge_end(submission, by_id.get(submission.run_id), own, comparison, backend, doubled=doubled)
    for run_id in starts.keys() - submitted:
        comparison.wrong_state.append(Bad(run_id, "", "ran and was never submitted"))
    stored = Counter(run.title for run in by_id.values())
    for run in by_id.values():
        if stored[run.title] > 1:
            comparison.ran_twice.append(Bad(run.run_id, run.title, "was stored twice for one submission"))
    return comparison


def _starts(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """The starts of each execution's container, by run."""
    found: dict[str, dict[str, list[Record]]] = defaultdict(dict)
    for record in records:
        if record.event == "start":
            found[record.task_id].setdefault(record.execution_id, []).append(record)
    return found


def _bad(submission: Submission, why: str) -> Bad:
    return Bad(submission.run_id, submission.plan.title, why)


def _doubled(
    plan: TaskPlan, starts: Mapping[str, Sequence[Record]], outages: Sequence[float], aftermath: float
) -> Iterator[tuple[str, bool]]:
    """Say what of a run was started more often than it may be, and whether Kubernetes did it by itself."""
    for execution_id, own in starts.items():
        if len(own) > 1:
            why = f"was started {len(own)} times as execution {execution_id}"
            yield why, _by_the_job_controller(own, outages, aftermath)
    if len(starts) > 1 and not plan.safe_to_retry:
        yield f"was started under {len(starts)} executions, and no retry was asked for", False


def _by_the_job_controller(starts: Sequence[Record], outages: Sequence[float], aftermath: float) -> bool:
    """Whether these are Pods of one Job, each but the first made soon after a kill of the API server."""
    one_job = len({record.owner for record in starts}) == 1 and bool(starts[0].owner)
    own_pods = len({record.where for record in starts}) == len(starts)
    later = sorted(record.t for record in starts)[1:]
    return one_job and own_pods and all(any(0 <= t - o <= aftermath for o in outages) for t in later)


def _judge_end(
    submission: Submission,
    run: RunView | None,
    starts: Mapping[str, Sequence[Record]],
    comparison: Comparison,
    backend: str,
    *,
    doubled: bool,
) -> None:
    if run is None:
        comparison.lost.append(_bad(submission, "is unknown to the control plane"))
        return
    ended = _bad(submission, f"ended {run.state} {run.error_code or ''} ({run.exit_code}): {run.message}")
    if run.state not in TERMINAL:
        comparison.lost.append(_bad(submission, f"is still {run.state}: {run.message}"))
    elif run.state == "SUCCEEDED" and not starts:
        comparison.lost.append(_bad(submission, "succeeded and never ran"))
    elif _as_planned(submission, run):
        return
    elif _may_degrade(submission, run, backend, doubled=doubled):
        comparison.degraded.append(ended)
    elif run.error_code in LOST_REASONS:
        comparison.lost.append(ended)
    else:
        comparison.wrong_state.append(ended)


def _as_planned(submission: Submission, run: RunView) -> bool:
    plan = submission.plan
    if run.state == "CANCELLED":
        return submission.cancelled
    match plan.end:
        case End.SUCCESS:
            return run.state == "SUCCEEDED"
        case End.EXIT:
            return (run.state, run.error_code, run.exit_code) == ("FAILED", "container_exit", plan.exit_code)
        case End.OOM:
            return (run.state, run.error_code) == ("FAILED", "container_oom")
        case End.EVICTED:
            return (run.state, run.error_code) == ("ERROR", "evicted")
        case End.IMAGE_PULL:
            return (run.state, run.error_code) == ("ERROR", "image_pull")
        case End.UNSCHEDULABLE:
            return (run.state, run.error_code) == ("ERROR", "unschedulable")
        case End.NEVER:
            return False


def _may_degrade(submission: Submission, run: RunView, backend: str, *, doubled: bool) -> bool:
    """Whether kills may have made this of the plan, as docs/reliability.md promises.

    Kubernetes: a failure that is certain while the Job goes on is reported after the Job was
    deleted. A worker that dies between the two leaves no record, and the control plane ends the
    run as lost. A task of which the Job controller has started two Pods (``doubled``) fails, or is lost
    in the same way. Direct: a task does not outlive its worker.
    """
    if run.state != "ERROR":
        return False
    if doubled and run.error_code in {"pod_replaced", *LOST_REASONS}:
        return True
    if backend == "direct":
        return run.error_code in INTERRUPTED_REASONS
    return submission.plan.end in (End.IMAGE_PULL, End.UNSCHEDULABLE) and run.error_code in LOST_REASONS
