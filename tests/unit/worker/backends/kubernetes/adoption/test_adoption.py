"""Which Jobs of earlier workers are adopted, and when, in virtual time."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.adoption.decision import AdoptionPolicy, Liveness
from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import AdoptionQueries, OwnerLiveness
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from tests.unit.worker.backends.kubernetes.memory_api import Fault
from tests.virtual_time import in_virtual_time

from .bench import ELSEWHERE, GONE, OWN, Bench, ended, job

WITH_SECRET = {"oz.warp.dev/environment-secret": "variables"}
FORBIDDEN = Fault(403, 'pods "worker-1" is forbidden: User "w" cannot get resource "pods"')


# Whose Jobs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [{"active": 1}, ended(60), ended(60, "Failed")])
@in_virtual_time
async def test_jobs_of_dead_owners_are_adopted_at_the_start(status: dict[str, Any]) -> None:
    bench = Bench()
    owners = {
        "own": str(OWN),
        "removed": GONE,
        "replaced": f"{bench.put_worker('worker-1')}-earlier",
        "failed": bench.put_worker("worker-2", phase="Failed"),
    }
    for name, owner in owners.items():
        bench.put(job(name, owner, status=status))
    await bench.start()
    assert sorted(bench.adopted) == sorted(owners)


@pytest.mark.parametrize("status", [{"active": 1}, ended(60)])
@in_virtual_time
async def test_jobs_of_owners_that_may_live_are_not_adopted(status: dict[str, Any]) -> None:
    bench = Bench()
    for name, owner in {
        "alive": bench.put_worker("worker-1"),
        "elsewhere": ELSEWHERE,
        "without": None,
        "odd": "who knows",
    }.items():
        bench.put(job(name, owner, status=status))
    await bench.start()
    await asyncio.sleep(300)
    assert bench.adopted == []


@in_virtual_time
async def test_a_job_is_adopted_once() -> None:
    bench = Bench(job("run", GONE))
    await bench.start()
    for active in (1, 0):
        bench.put(job("run", GONE, status={"active": active}))
    await asyncio.sleep(60)
    assert bench.adopted == ["run"]
    bench.put(job("run", GONE, uid="uid-another"))
    await asyncio.sleep(1)
    assert bench.adopted == ["run", "run"]


@in_virtual_time
async def test_a_job_that_is_deleted_and_comes_back_is_another() -> None:
    bench = Bench(job("run", GONE))
    await bench.start()
    bench.put(job("run", GONE), deleted=True)
    bench.put(job("run", GONE))
    await asyncio.sleep(1)
    assert bench.adopted == ["run", "run"]


@in_virtual_time
async def test_after_a_new_list_an_unknown_job_is_forgotten() -> None:
    bench = Bench()
    adoption = await bench.start()
    adoption.mark_owned(job("run", GONE).metadata.name, "uid-run")
    adoption.on_relist()
    bench.put(job("run", GONE))
    await asyncio.sleep(1)
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_closed_worker_adopts_nothing() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    bench.put(job("run", owner))
    adoption = await bench.start()
    await adoption.close()
    bench.api.pods.clear()
    await asyncio.sleep(60)
    assert (bench.adopted, len(bench.lookups)) == ([], 1)


# When owners are looked up ------------------------------------------------------------------------


@in_virtual_time
async def test_an_owner_is_looked_up_rarely_however_many_jobs_it_has() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    for n in range(20):
        bench.put(job(f"run-{n}", owner))
    await bench.start()
    for n in range(20):
        await asyncio.sleep(1)
        bench.put(job(f"run-{n}", owner, status={"active": 1, "ready": 1}))
    await asyncio.sleep(40)
    assert bench.lookups == [0, 3, 9, 21, 36, 51]


@in_virtual_time
async def test_the_jobs_of_an_owner_that_goes_are_adopted_at_the_next_look_up() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    bench.put(job("before", owner))
    await bench.start()
    bench.put(job("after", owner))
    await asyncio.sleep(4)
    bench.api.pods.clear()
    await asyncio.sleep(4)
    assert bench.adopted == []
    await asyncio.sleep(2)
    assert sorted(bench.adopted) == ["after", "before"]
    bench.put(job("later", owner))
    await asyncio.sleep(0)
    assert "later" in bench.adopted


@in_virtual_time
async def test_a_job_that_changes_hands_waits_for_its_next_owner() -> None:
    bench = Bench()
    bench.put(job("run", bench.put_worker("worker-1")))
    await bench.start()
    bench.put(job("run", bench.put_worker("worker-2")))
    del bench.api.pods["worker-1"]
    await asyncio.sleep(60)
    assert bench.adopted == []
    del bench.api.pods["worker-2"]
    await asyncio.sleep(15)
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_new_owner_is_looked_up_at_once() -> None:
    bench = Bench()
    await bench.start()
    await asyncio.sleep(10)
    bench.put(job("run", GONE))
    await asyncio.sleep(0.1)
    assert (bench.adopted, bench.lookups) == (["run"], [10])


@in_virtual_time
async def test_an_owner_without_jobs_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    owner = bench.put_worker("worker-1")
    bench.put(job("run", owner))
    await bench.start()
    await asyncio.sleep(1)
    bench.put(job("run", owner), deleted=True)
    await asyncio.sleep(3)
    assert bench.lookups == [0]
    bench.put(job("another", owner))
    await asyncio.sleep(0.1)
    assert bench.lookups == [0, 4]
    assert sum("Not adopted yet" in message for message in caplog.messages) == 2


@in_virtual_time
async def test_a_look_up_that_fails_is_made_again() -> None:
    bench = Bench(job("run", GONE))
    bench.api.fail("GET pods", Fault(500, "etcd is gone", "InternalError"), times=2)
    await bench.start()
    await asyncio.sleep(5)
    assert bench.adopted == []
    await asyncio.sleep(2)
    assert (bench.adopted, bench.lookups) == (["run"], [0, 3, 6])


@in_virtual_time
async def test_an_owner_that_may_not_be_read_may_be_alive(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(job("run", GONE), job("another", "pod/agents/worker-8/uid"))
    bench.api.fail("GET pods", FORBIDDEN, times=6)
    await bench.start()
    await asyncio.sleep(60)
    assert bench.adopted == []
    assert sum("grant pods: get in namespace agents" in message for message in caplog.messages) == 1
    await asyncio.sleep(15)
    assert sorted(bench.adopted) == ["another", "run"]


# Jobs that have ended ---------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 86400])
@in_virtual_time
async def test_the_grace_of_an_orphan_counts_by_the_servers_clock(ahead: int) -> None:
    bench = Bench(job("run", ELSEWHERE, status=ended(590 - ahead)), job("active", ELSEWHERE))
    bench.api.ahead = timedelta(seconds=ahead)
    await bench.start()
    await asyncio.sleep(9)
    assert bench.adopted == []
    await asyncio.sleep(2)
    assert bench.adopted == ["run"]
    bench.put(job("active", ELSEWHERE, status=ended(-11 - ahead)))
    await asyncio.sleep(599)
    assert bench.adopted == ["run"]
    await asyncio.sleep(2)
    assert bench.adopted == ["run", "active"]


@in_virtual_time
async def test_the_servers_clock_is_read_once() -> None:
    bench = Bench(*(job(f"run-{n}", ELSEWHERE, status=ended(10 * n)) for n in range(3)))
    await bench.start()
    await asyncio.sleep(700)
    assert bench.adopted == ["run-2", "run-1", "run-0"]
    assert bench.api.requests.count("GET jobs") == 1


@in_virtual_time
async def test_a_clock_that_cannot_be_read_is_this_machines() -> None:
    bench = Bench(job("run", str(OWN), status=ended(-(10**9))))
    bench.api.fail("GET jobs", Fault(500, "etcd is gone", "InternalError"))
    await bench.start()
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_job_that_ended_long_ago_is_ignored() -> None:
    bench = Bench(job("old", GONE, status=ended(3601)), job("new", GONE, status=ended(3599)))
    await bench.start()
    assert bench.adopted == ["new"]


@in_virtual_time
async def test_the_end_of_an_earlier_execution_is_not_reported() -> None:
    def execution(n: int, **more: Any) -> JobView:
        time = f"2026-01-01T11:00:0{n}Z"
        return job("run", GONE, execution=str(n), uid=f"uid-{n}", creationTimestamp=time, **more)

    bench = Bench(execution(1, status=ended(60)), execution(2), execution(3, status=ended(30)))
    await bench.start()
    assert bench.adopted == ["run", "run"]
    assert "GET jobs" in bench.api.requests


@in_virtual_time
async def test_what_is_not_adopted_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = Bench(job("going", GONE, deletionTimestamp="2026-01-01T11:59:00Z"))
    alive = bench.put_worker("worker-1")
    for n in range(3):
        bench.put(job(f"old-{n}", GONE, status=ended(4000)))
        bench.put(job(f"alive-{n}", alive))
    bench.put(job("other", GONE, labels={"oz-worker-id": "another"}))
    await bench.start()
    await asyncio.sleep(60)
    logged = {
        record.message.partition(", such as")[0]: record.levelname
        for record in caplog.records
        if "Not adopted" in record.message
    }
    assert logged == {
        "Not adopted: 3 Jobs": "INFO",
        "Not adopted: Job oz-task-other-exec-e: of another worker, whose ID has the same hash": "INFO",
        "Not adopted: Job oz-task-going-exec-e: being deleted": "DEBUG",
        "Not adopted yet: 3 Jobs": "INFO",
    }
    (waiting,) = [m for m in caplog.messages if "Not adopted yet" in m]
    assert waiting.endswith(f"another worker with this ID owns it and is alive (owner: {alive})")


# Jobs that this worker creates --------------------------------------------------------------------


@in_virtual_time
async def test_a_job_is_no_candidate_while_it_is_created() -> None:
    bench = Bench()
    adoption = await bench.start()
    created = job("run", str(OWN))
    with adoption.launching(created.metadata.name):
        bench.put(created)
        await asyncio.sleep(60)
        assert bench.adopted == []
        adoption.mark_owned(created.metadata.name, created.metadata.uid)
    bench.put(created)
    await asyncio.sleep(60)
    assert bench.adopted == []


@in_virtual_time
async def test_a_job_whose_creation_was_given_up_is_a_candidate_again() -> None:
    bench = Bench()
    adoption = await bench.start()
    with adoption.launching(job("run", str(OWN)).metadata.name):
        bench.put(job("run", str(OWN)))
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_an_assignment_withdraws_the_candidate() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    bench.put(job("run", owner))
    adoption = await bench.start()
    with adoption.launching(job("run", owner).metadata.name):
        bench.api.pods.clear()
        await asyncio.sleep(60)
        assert bench.adopted == []
    await asyncio.sleep(1)
    assert bench.adopted == ["run"]


@pytest.mark.parametrize(
    ("owner", "worker", "objection_part"),
    [
        (GONE, "worker-a", None),
        (str(OWN), "worker-a", None),
        (GONE, "worker-b", "belongs to another worker (worker-b)"),
        ("worker-1", "worker-a", "is owned by another worker with this ID, which is alive"),
        (ELSEWHERE, "worker-a", "cannot be known"),
        (None, "worker-a", "not noted"),
    ],
)
@in_virtual_time
async def test_why_an_assigned_job_may_not_be_adopted(
    owner: str | None, worker: str, objection_part: str | None
) -> None:
    bench = Bench()
    adoption = await bench.start()
    if owner == "worker-1":
        owner = bench.put_worker(owner)
    objection = await adoption.objection(job("run", owner, worker=worker))
    assert objection is None if objection_part is None else objection_part in (objection or "")


# Jobs without their Secret -------------------------------------------------------------------------


@in_virtual_time
async def test_a_job_whose_secret_exists_is_adopted() -> None:
    bench = Bench(job("run", GONE, annotations=WITH_SECRET))
    bench.api.secrets["variables"] = {}
    await bench.start()
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_job_without_its_secret_waits_for_its_task() -> None:
    bench = Bench(job("run", GONE, annotations=WITH_SECRET), policy=AdoptionPolicy(secret_grace=120.0))
    await bench.start()
    assert bench.api.secrets == {}
    await asyncio.sleep(119)
    assert bench.adopted == []
    await asyncio.sleep(2)
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_secret_that_cannot_be_asked_for_is_asked_for_again() -> None:
    bench = Bench(job("run", GONE, annotations=WITH_SECRET))
    bench.api.secrets["variables"] = {}
    bench.api.fail("POST secrets", Fault(500, "etcd is gone", "InternalError"))
    await bench.start()
    await asyncio.sleep(2)
    assert bench.adopted == []
    await asyncio.sleep(2)
    assert bench.adopted == ["run"]


@in_virtual_time
async def test_a_job_that_is_assigned_during_the_request_is_not_adopted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = asyncio.Event()

    async def slow(queries: AdoptionQueries, of: JobView) -> bool:
        asked.set()
        await asyncio.sleep(5)
        return True

    monkeypatch.setattr(AdoptionQueries, "secret_exists", slow)
    bench = Bench()
    adoption = await bench.start()
    bench.put(job("run", GONE, annotations=WITH_SECRET))
    await asked.wait()
    with adoption.launching(job("run", GONE).metadata.name):
        await asyncio.sleep(10)
        adoption.mark_owned(job("run", GONE).metadata.name, "uid-run")
    assert bench.adopted == []


@in_virtual_time
async def test_an_unexpected_error_does_not_end_the_adoption(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(queries: AdoptionQueries, of: JobView) -> bool:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    bench = Bench()
    bench.api.secrets["variables"] = {}
    await bench.start()
    monkeypatch.setattr(AdoptionQueries, "secret_exists", broken)
    bench.put(job("run", GONE, annotations=WITH_SECRET))
    await asyncio.sleep(1)
    assert "failed, and is tried again" in caplog.text
    bench.put(job("another", str(OWN)))
    await asyncio.sleep(5)
    assert sorted(bench.adopted) == ["another", "run"]


@in_virtual_time
async def test_an_unexpected_error_ends_no_other_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str | None] = []

    async def look_up(owners: OwnerLiveness, owner: str | None) -> Liveness:
        if owner == GONE:
            raise RuntimeError("a bug")
        await asyncio.sleep(5)
        ended.append(owner)
        return Liveness.ALIVE

    monkeypatch.setattr(OwnerLiveness, "look_up", look_up)
    with pytest.raises(RuntimeError, match="a bug"):
        await Bench(job("one", GONE), job("two", ELSEWHERE)).start()
    assert ended == [ELSEWHERE]
