"""How many events of a task are read."""

from typing import Any

from oz_agent_worker.worker.backends.kubernetes.inspection.event_history import events_for_list, task_events
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.scripted_api import ScriptedApi, listing, scripted_client
from tests.unit.worker.backends.kubernetes.tasks import JOB_UID, POD_UID, task_job, task_pod
from tests.virtual_time import in_virtual_time

GONE = "oz-task-run-1-fghij"
OF_POD = {"reason": "Pulling", "involvedObject": {"kind": "Pod", "uid": POD_UID}}


def created(pod: str) -> dict[str, Any]:
    message = f"Created pod: {pod}"
    return {
        "reason": "SuccessfulCreate",
        "message": message,
        "involvedObject": {"kind": "Job", "uid": JOB_UID},
    }


@in_virtual_time
async def test_of_each_object_of_a_task_one_page_of_events_is_read() -> None:
    api = ScriptedApi()
    api.answer("list", *(listing("1", event, token="more") for event in (created(GONE), OF_POD, OF_POD)))
    async with scripted_client(api) as client:
        events = await task_events(client, "agents", task_job(), [task_pod("Running")])
    assert len(events) == 3
    assert [(asked.query["fieldSelector"], asked.query["limit"]) for asked in api.asked] == [
        (f"involvedObject.uid={JOB_UID}", "500"),
        (f"involvedObject.uid={POD_UID}", "500"),
        (f"involvedObject.kind=Pod,involvedObject.name={GONE}", "500"),
    ]


@in_virtual_time
async def test_for_a_list_of_tasks_one_page_of_events_of_a_pod_is_read() -> None:
    api = ScriptedApi()
    api.answer("list", listing("1", token="more"), listing("1", OF_POD), listing("1", OF_POD, token="more"))
    async with scripted_client(api) as client:
        tasks = [(task_job(), [task_pod("Pending")])]
        found = await events_for_list(client, "agents", tasks, ObservationPolicy())
    assert [len(events) for events in found.values()] == [1]
    warnings = "involvedObject.kind=Pod,type=Warning"
    asked = [asked.query["fieldSelector"] for asked in api.asked]
    assert asked == [warnings, warnings, f"involvedObject.uid={POD_UID}"]
