from oz_agent_worker.worker.backends.kubernetes.inspection.explain import explain
from oz_agent_worker.worker.backends.kubernetes.inspection.render_text import render_text
from tests.unit.worker.backends.kubernetes.samples import waiting
from tests.unit.worker.backends.kubernetes.tasks import NOW, event, facts, task_job, task_pod


def test_the_answer_comes_first_and_the_evidence_in_columns() -> None:
    pod = task_pod("Pending", containerStatuses=[waiting("task", "ImagePullBackOff", "i/o timeout")])
    known = facts(task_job(), pod, events=(event("BackOff", "Back-off pulling image"),))
    assert render_text(explain(known), NOW).splitlines() == [
        "Task run-1 waits: the image of container `task` cannot be pulled (ImagePullBackOff: i/o timeout):"
        " check the image's name and tag, the registry, and backend.kubernetes.image_pull_secrets.",
        "  Outlook: the worker fails the task when this has lasted 60 s.",
        "",
        "Execution exec-1 of worker w1, namespace agents",
        "Evidence:",
        "  10m   Job oz-task-run-1-exec-exec-1   created",
        "  10m   Pod oz-task-run-1-abcde         Pending on node node-1",
        "  -     container task                  waits (ImagePullBackOff: i/o timeout)",
        "  5m    event of Pod                    BackOff by kubelet: Back-off pulling image",
    ]


def test_where_there_is_nothing_to_do_nothing_is_advised() -> None:
    text = render_text(explain(facts(task_job(labels={}), task_pod("Running"))), NOW)
    assert "To do" not in text
    assert "Outlook" not in text
    assert "of worker unknown" in text


def test_the_jobs_creator_is_shown_where_it_is_recorded() -> None:
    annotations = {"oz.warp.dev/task-id": "run-1", "oz.warp.dev/owner": "pod/agents/worker-0/uid"}
    explanation = explain(facts(task_job(annotations=annotations), task_pod("Running")))
    assert explanation.owner == "pod/agents/worker-0/uid"
    assert "Created by pod/agents/worker-0/uid" in render_text(explanation, NOW).splitlines()
    assert "Created by" not in render_text(explain(facts(task_job(), task_pod("Running"))), NOW)
