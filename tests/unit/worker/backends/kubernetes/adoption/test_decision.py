from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.adoption.decision import (
    Adopt,
    AdoptionDecision,
    AdoptionPolicy,
    CheckSecret,
    Ignore,
    IgnoreReason,
    JobContext,
    Liveness,
    Wait,
    decide,
    process_liveness,
    superseded_jobs,
)
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import UNAVAILABLE, Machine, ProcessInstance
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.job_state import job_state
from tests.unit.worker.backends.kubernetes.samples import running

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = AdoptionPolicy(orphan_grace=600, report_window=3600, secret_grace=120)
SELF, GONE, ALIVE, UNKNOWN = Liveness.SELF, Liveness.GONE, Liveness.ALIVE, Liveness.UNKNOWN


def job(*, ended: float | None = None, kind: str = "Complete", name: str = "j", **metadata: Any) -> JobView:
    """A Job of worker ``w``, which ended so many seconds before noon."""
    end = (NOON - timedelta(seconds=ended or 0)).isoformat().replace("+00:00", "Z")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": end}]
    annotations = {"oz.warp.dev/task-id": "t", "oz.warp.dev/execution-id": "e"}
    base = {"name": name, "uid": "u", "labels": {"oz-worker-id": "w"}, "annotations": annotations}
    status = {"conditions": conditions if ended is not None else []}
    return msgspec.convert({"metadata": {**base, **metadata}, "status": status}, JobView)


def decided(of: JobView, owner: Liveness, **context: Any) -> AdoptionDecision:
    usual = {"superseded": False, "started": True, "secret": None, "known_for": 0.0}
    return decide(job_state(of, ()), "w", JobContext(owner=owner, now=NOON, **usual | context), RULES)


@pytest.mark.parametrize(
    ("of", "owner", "decision"),
    [
        (job(), SELF, Adopt()),
        (job(), GONE, Adopt()),
        (job(), ALIVE, Wait()),
        (job(), UNKNOWN, Wait()),
        (job(ended=5), SELF, Adopt()),
        (job(ended=5), GONE, Adopt()),
        (job(ended=5), ALIVE, Wait()),
        (job(ended=5), UNKNOWN, Wait(595)),
        (job(ended=5, kind="Failed"), UNKNOWN, Wait(595)),
        (job(ended=600), UNKNOWN, Adopt()),
        (job(ended=-300), UNKNOWN, Wait(900)),
        (job(ended=3600), SELF, Adopt()),
        (job(ended=3601), SELF, Ignore(IgnoreReason.TOO_OLD)),
        (job(ended=3601), GONE, Ignore(IgnoreReason.TOO_OLD)),
        (job(ended=3601), UNKNOWN, Ignore(IgnoreReason.TOO_OLD)),
        (job(ended=3601), ALIVE, Wait()),
        (job(ended=5, kind="SuccessCriteriaMet"), GONE, Adopt()),
    ],
)
def test_who_owns_a_job_and_whether_it_has_ended_decide(
    of: JobView, owner: Liveness, decision: AdoptionDecision
) -> None:
    assert decided(of, owner) == decision


@pytest.mark.parametrize("owner", Liveness)
@pytest.mark.parametrize("ended", [None, 5, 4000])
@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"labels": {"oz-worker-id": "another"}}, IgnoreReason.NOT_MINE),
        ({"labels": None}, IgnoreReason.NOT_MINE),
        ({"annotations": None}, IgnoreReason.NOT_A_TASK),
        ({"annotations": {"oz.warp.dev/task-id": "t"}}, IgnoreReason.NOT_A_TASK),
        ({"deletionTimestamp": "2026-01-01T12:00:00Z"}, IgnoreReason.DELETING),
    ],
)
def test_whoever_owns_it_what_is_no_task_of_this_worker_is_left_alone(
    metadata: dict[str, Any], reason: IgnoreReason, ended: float | None, owner: Liveness
) -> None:
    assert decided(job(ended=ended, **metadata), owner) == Ignore(reason)


def test_an_earlier_execution_is_reported_while_it_runs_alone() -> None:
    assert decided(job(ended=5), GONE, superseded=True) == Ignore(IgnoreReason.SUPERSEDED)
    assert decided(job(), GONE, superseded=True) == Adopt()
    assert decided(job(ended=5), ALIVE, superseded=True) == Wait()


def test_an_end_without_a_time_has_just_been() -> None:
    timeless = msgspec.convert({"conditions": [{"type": "Failed", "status": "True"}]}, type(job().status))
    ended = msgspec.structs.replace(job(), status=timeless)
    assert decided(ended, GONE) == Adopt()
    assert decided(ended, UNKNOWN) == Wait(600)


NEEDY = job(
    annotations={
        "oz.warp.dev/task-id": "t",
        "oz.warp.dev/execution-id": "e",
        "oz.warp.dev/environment-secret": "s",
    }
)


@pytest.mark.parametrize(
    ("context", "decision"),
    [
        ({"started": True}, Adopt()),
        ({"started": False}, CheckSecret()),
        ({"started": False, "secret": True}, Adopt()),
        ({"started": False, "secret": False, "known_for": 20.0}, Wait(100)),
        ({"started": False, "secret": False, "known_for": 119.5}, Wait(0.5)),
        ({"started": False, "secret": False, "known_for": 120.0}, Adopt()),
    ],
)
def test_a_job_without_its_secret_waits_for_its_task_to_come_again(
    context: dict[str, Any], decision: AdoptionDecision
) -> None:
    assert decided(NEEDY, GONE, **context) == decision
    assert decided(job(), GONE, **context) == Adopt()
    assert decided(NEEDY, ALIVE, **context) == Wait()


@given(
    st.none() | st.integers(-600, 10_000),
    st.sampled_from(Liveness),
    st.booleans(),
    st.booleans(),
    st.none() | st.booleans(),
    st.integers(0, 10_000),
)
def test_the_rules_above_all(
    ended: int | None, owner: Liveness, superseded: bool, started: bool, secret: bool | None, later: int
) -> None:
    context = JobContext(
        owner=owner, now=NOON, superseded=superseded, started=started, secret=secret, known_for=later
    )
    decision = decide(job_state(job(ended=ended), ()), "w", context, RULES)
    if owner is ALIVE or (owner is UNKNOWN and ended is None):
        assert decision == Wait(), "a Job that may have a worker which is alive is touched by no other"
    if isinstance(decision, Wait) and decision.seconds is not None:
        assert decision.seconds > 0
        then = replace(context, now=NOON + timedelta(seconds=decision.seconds))
        assert not isinstance(decide(job_state(job(ended=ended), ()), "w", then, RULES), Wait), (
            "one wait is enough"
        )


def listed(*jobs: tuple[str, str, str]) -> list[JobView]:
    return [
        job(
            name=name,
            creationTimestamp=f"2026-01-01T12:00:{created}Z",
            annotations={"oz.warp.dev/task-id": task, "oz.warp.dev/execution-id": name},
        )
        for name, task, created in jobs
    ]


def test_all_but_the_last_execution_of_a_task_are_superseded_jobs() -> None:
    jobs = listed(("a1", "a", "01"), ("a3", "a", "03"), ("a2", "a", "02"), ("b1", "b", "01"))
    assert superseded_jobs(jobs, "w") == {"a1", "a2"}
    assert superseded_jobs(jobs, "another") == frozenset()
    assert superseded_jobs([job(annotations=None)], "w") == frozenset()


def test_of_two_of_one_second_the_one_that_ended_first_is_superseded() -> None:
    """K13: times are whole seconds, and the executions of a task follow each other."""
    first, second = listed(("a1", "a", "01"), ("a2", "a", "01"))
    assert superseded_jobs([first, second], "w") == frozenset()
    ended, later = (msgspec.structs.replace(first, status=job(ended=age).status) for age in (9, 5))
    for both in ([ended, second], [second, ended]):
        assert superseded_jobs(both, "w") == {"a1"}
    both_ended = [ended, msgspec.structs.replace(second, status=later.status)]
    assert superseded_jobs(both_ended, "w") == {"a1"}
    timeless = msgspec.convert({"conditions": [{"type": "Failed", "status": "True"}]}, type(ended.status))
    assert superseded_jobs([ended, msgspec.structs.replace(second, status=timeless)], "w") == {"a1"}


def finished(ago: float | None, **status: Any) -> PodView:
    """A Pod whose container ``task`` ended so many seconds before noon, and beside it another runs."""
    at = (NOON - timedelta(seconds=ago)).isoformat() if ago is not None else None
    end = {"name": "task", "state": {"terminated": {"exitCode": 0, "finishedAt": at}}}
    status = {"phase": "Running", "containerStatuses": [end, running("proxy")], **status}
    return msgspec.convert({"metadata": {"uid": "p", "name": "p"}, "status": status}, PodView)


@pytest.mark.parametrize(
    ("of", "pods", "owner", "context", "decision"),
    [
        # K10: the task has ended, and a container beside it runs on.
        (job(), (finished(5),), SELF, {}, Adopt()),
        (job(), (finished(9000),), GONE, {}, Adopt()),
        (job(), (finished(5),), ALIVE, {}, Wait()),
        (job(), (finished(5),), UNKNOWN, {}, Wait(595)),
        (job(), (finished(599.5),), UNKNOWN, {}, Wait(0.5)),
        (job(), (finished(600),), UNKNOWN, {}, Adopt()),
        (job(), (finished(None),), UNKNOWN, {}, Wait()),
        (job(), (finished(600),), UNKNOWN, {"superseded": True}, Ignore(IgnoreReason.SUPERSEDED)),
        (job(), (finished(600),), GONE, {"superseded": True}, Ignore(IgnoreReason.SUPERSEDED)),
        # K6: announced, and never declared.
        (job(ended=5, kind="SuccessCriteriaMet"), (), UNKNOWN, {}, Wait(595)),
        (job(ended=600, kind="FailureTarget"), (), UNKNOWN, {}, Adopt()),
        (job(ended=600, kind="FailureTarget"), (msgspec.convert({}, PodView),), UNKNOWN, {}, Wait()),
        (job(ended=9000, kind="SuccessCriteriaMet"), (), GONE, {}, Adopt()),
    ],
)
def test_a_task_that_has_ended_before_its_job(
    of: JobView,
    pods: tuple[PodView, ...],
    owner: Liveness,
    context: dict[str, Any],
    decision: AdoptionDecision,
) -> None:
    usual = {"superseded": False, "started": True, "secret": None, "known_for": 0.0}
    given_context = JobContext(owner=owner, now=NOON, **usual | context)
    assert decide(job_state(of, pods), "w", given_context, RULES) == decision


HERE = Machine("host", "boot", "4026531836")


@pytest.mark.parametrize(
    ("machine", "started", "liveness"),
    [
        (HERE, "5", ALIVE),
        (HERE, None, GONE),
        (HERE, "6", GONE),
        (HERE, UNAVAILABLE, UNKNOWN),
        (Machine("host", "another", "4026531836"), "5", GONE),
        (Machine("host", "another", "4026532999"), None, GONE),
        (Machine("host", UNAVAILABLE, "4026531836"), "5", UNKNOWN),
        (Machine("another", "boot", "4026531836"), "5", UNKNOWN),
        (Machine("another", "boot", "4026531836"), None, UNKNOWN),
        (Machine("host", "boot", "4026532999"), None, UNKNOWN),
        (Machine("host", "boot", "4026532999"), "5", UNKNOWN),
        (Machine("host", "boot", "4026532999"), "6", UNKNOWN),
        (Machine("host", "boot"), None, UNKNOWN),
    ],
)
def test_a_process_is_looked_for_where_it_runs_alone(
    machine: Machine, started: str | None, liveness: Liveness
) -> None:
    assert process_liveness(ProcessInstance(HERE, 1, "5"), machine, started) is liveness


@pytest.mark.parametrize(("started", "liveness"), [("5", ALIVE), ("6", GONE), (None, GONE)])
def test_an_owner_that_names_no_pid_namespace_is_looked_for_in_this_one(
    started: str | None, liveness: Liveness
) -> None:
    owner = ProcessInstance(Machine("host", "boot"), 1, "5")
    assert process_liveness(owner, HERE, started) is liveness
    assert process_liveness(owner, Machine("host", "boot"), started) is liveness


def test_without_boot_ids_only_an_absence_is_certain() -> None:
    there = Machine("host", UNAVAILABLE)
    owner = ProcessInstance(there, 1, "token")
    assert process_liveness(owner, there, None) is GONE
    assert process_liveness(owner, there, UNAVAILABLE) is UNKNOWN
