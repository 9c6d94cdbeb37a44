import json

from oz_agent_worker.protocol.assignment import parse_assignment
from oz_agent_worker.protocol.frames import TaskAssignment, decode_control_plane_frame, encode_frame
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import ANNOTATION_TASK_ID, job_name
from tests.bench.assignments import assignment, job_body, task_ids


def test_every_task_of_a_round_has_a_job_of_its_own() -> None:
    ids = task_ids("burst-b0", 2000)
    assert len({job_name(ExecutionKey(task_id, task_id)) for task_id in ids}) == 2000


def test_an_assignment_comes_through_the_wire_as_it_was_meant() -> None:
    sent = assignment("flight-00001")
    frame = decode_control_plane_frame(encode_frame(sent))
    assert isinstance(frame, TaskAssignment)
    parsed = parse_assignment(frame)
    assert parsed.key == ExecutionKey("flight-00001", "flight-00001")
    assert [sidecar.mount_path for sidecar in parsed.sidecars] == ["/agent"]
    assert parsed.env.keys() == {"WARP_API_KEY", "GITHUB_ACCESS_TOKEN", "GIT_AUTHOR_NAME"}


def test_a_body_is_the_whole_job() -> None:
    job = json.loads(job_body("bare-00001", "somewhere", "bare", "http://127.0.0.1:1"))
    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", "somewhere")
    assert job["metadata"]["annotations"][ANNOTATION_TASK_ID] == "bare-00001"
    pod = job["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["task"]
    assert len(pod["initContainers"]) == 1
