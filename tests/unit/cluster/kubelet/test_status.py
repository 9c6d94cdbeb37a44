from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.kubelet.states import ContainerState, Running, Terminated, Waiting, phase
from tests.cluster.kubelet.status import PodFacts, pod_status, unscheduled_status

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = START + timedelta(minutes=1)
FACTS = PodFacts("10.244.0.1", START)

WAITS = Waiting("PodInitializing")
RUNS = Running(START)
DONE = Terminated(0, "Completed", START, NOW)
FAILED = Terminated(3, "Error", START, NOW)


def pod(**inits: str) -> dict[str, Any]:
    """A Pod with a container ``task``, and init containers by name with their restartPolicy, if any."""
    spec: dict[str, Any] = {"containers": [{"name": "task", "image": "i"}]}
    if inits:
        spec["initContainers"] = [
            {"name": name, "image": "i"} | ({"restartPolicy": policy} if policy else {})
            for name, policy in inits.items()
        ]
    return {"metadata": {"uid": "u", "generation": 1}, "spec": spec, "status": {}}


@pytest.mark.parametrize(
    ("setup", "side", "task", "expected"),
    [
        (WAITS, WAITS, WAITS, "Pending"),
        (RUNS, WAITS, WAITS, "Pending"),
        (FAILED, WAITS, WAITS, "Failed"),
        (DONE, WAITS, WAITS, "Pending"),
        (DONE, RUNS, WAITS, "Pending"),
        (DONE, RUNS, RUNS, "Running"),
        (DONE, FAILED, RUNS, "Running"),
        (DONE, RUNS, DONE, "Running"),
        (DONE, FAILED, DONE, "Succeeded"),
        (DONE, DONE, FAILED, "Failed"),
    ],
)
def test_phase_follows_the_containers(
    setup: ContainerState, side: ContainerState, task: ContainerState, expected: str
) -> None:
    spec = pod(setup="", side="Always")["spec"]
    assert phase(spec, {"setup": setup, "side": side, "task": task}) == expected


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item.get("reason", "")) for item in status["conditions"]}


def test_initialising_pod_says_what_it_waits_for() -> None:
    status = pod_status(pod(setup=""), {"setup": RUNS, "task": WAITS}, FACTS, NOW)
    assert conditions(status) == {
        "PodReadyToStartContainers": ("True", ""),
        "Initialized": ("False", "ContainersNotInitialized"),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", ""),
    }
    assert status["conditions"][1]["message"] == "containers with incomplete status: [setup]"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_running_pod_is_ready() -> None:
    status = pod_status(pod(), {"task": RUNS}, FACTS, NOW)
    assert {kind: value for kind, (value, _) in conditions(status).items()} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert (status["phase"], status["startTime"], status["podIP"]) == (
        "Running",
        "2026-01-02T03:04:05Z",
        "10.244.0.1",
    )


def test_ended_pod_has_whole_container_status() -> None:
    status = pod_status(pod(), {"task": FAILED}, FACTS, NOW)
    assert status["containerStatuses"] == [
        {
            "name": "task",
            "state": {
                "terminated": {
                    "exitCode": 3,
                    "reason": "Error",
                    "startedAt": "2026-01-02T03:04:05Z",
                    "finishedAt": "2026-01-02T03:05:05Z",
                    "containerID": "containerd://u-task",
                }
            },
            "lastState": {},
            "ready": False,
            "started": False,
            "restartCount": 0,
            "image": "i",
            "imageID": f"i@sha256:{'0' * 64}",
            "containerID": "containerd://u-task",
        }
    ]
    assert conditions(status)["Ready"] == ("False", "PodFailed")


def test_evicted_pod_is_a_disruption_whatever_its_containers_say() -> None:
    status = pod_status(pod(), {"task": DONE}, PodFacts("10.244.0.1", START, "Evicted", "low on memory"), NOW)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "low on memory")
    assert conditions(status)["DisruptionTarget"] == ("True", "TerminationByKubelet")


def test_transition_time_stays_while_a_condition_does() -> None:
    running = pod()
    running["status"] = pod_status(running, {"task": RUNS}, FACTS, START)
    ended = pod_status(running, {"task": DONE}, FACTS, NOW)
    times = {item["type"]: item["lastTransitionTime"] for item in ended["conditions"]}
    assert times["PodScheduled"] == "2026-01-02T03:04:05Z"
    assert times["Ready"] == "2026-01-02T03:05:05Z"


def test_unschedulable_pod_has_the_schedulers_message() -> None:
    (condition,) = unscheduled_status("0/1 nodes are available", NOW)["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "PodScheduled",
        "False",
        "Unschedulable",
    )
