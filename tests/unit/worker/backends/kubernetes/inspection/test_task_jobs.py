import pytest

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.inspection.task_jobs import (
    AmbiguousTaskError,
    NoSuchTaskError,
    is_pod_name,
    matching_jobs,
)
from tests.unit.worker.backends.kubernetes.tasks import LATER, task_job

ONE = task_job(task_id="7B3A-run", execution_id="aaaa1111")
TWO = task_job(task_id="7b99-run", execution_id="bbbb2222")
AGAIN = task_job(task_id="7B3A-run", execution_id="cccc3333", creationTimestamp=LATER)


@pytest.mark.parametrize(
    ("text", "executions"),
    [
        ("7B3A-run", ["cccc3333", "aaaa1111"]),
        ("7b3a", ["cccc3333", "aaaa1111"]),
        ("7b9", ["bbbb2222"]),
        ("BBBB2222", ["bbbb2222"]),
        ("aaaa", ["aaaa1111"]),
        (TWO.metadata.name, ["bbbb2222"]),
        (f"{TWO.metadata.name}-x7k2p", ["bbbb2222"]),
    ],
    ids=["task", "prefix", "another's prefix", "execution", "execution's prefix", "Job", "Pod"],
)
def test_what_a_text_means(text: str, executions: list[str]) -> None:
    assert [job.key.execution_id for job in matching_jobs([ONE, TWO, AGAIN], text)] == executions


def test_of_two_of_one_second_the_one_that_goes_on_is_the_newer_one() -> None:
    """K13: times are whole seconds."""
    ended = task_job({"type": "Failed", "status": "True"}, task_id="a", execution_id="one")
    goes_on = task_job(task_id="a", execution_id="two")
    for both in ([ended, goes_on], [goes_on, ended]):
        assert matching_jobs(both, "a") == [goes_on, ended]


def test_a_whole_id_wins_over_one_that_begins_with_it() -> None:
    longer = task_job(task_id="7b99-run-longer")
    assert matching_jobs([longer, TWO], "7b99-run") == [TWO]


def test_the_beginning_of_several_tasks_lists_them() -> None:
    with pytest.raises(AmbiguousTaskError, match=r"2 tasks:\n  7B3A-run\n  7b99-run$"):
        matching_jobs([ONE, TWO, AGAIN], "7b")


def test_a_long_list_is_cut() -> None:
    with pytest.raises(AmbiguousTaskError, match=r"  task-09\n  and 2 more$"):
        matching_jobs([task_job(task_id=f"task-{n:02}") for n in range(12)], "task")


@pytest.mark.parametrize("text", ["", "8", "run", "oz-task-7b99-run-exec-bbbb2222x"])
def test_what_means_no_task(text: str) -> None:
    with pytest.raises(NoSuchTaskError):
        matching_jobs([ONE, TWO], text)


def test_a_job_that_lost_its_annotations_is_known_by_its_name() -> None:
    bare = task_job(annotations={}, labels={})
    assert bare.key == ExecutionKey(bare.metadata.name, bare.metadata.name)
    assert bare.worker == ""
    assert matching_jobs([bare], "oz-task-run") == [bare]


def test_the_name_of_a_pod_is_its_jobs_cut_and_five_characters_more() -> None:
    assert is_pod_name("oz-task-1-x7k2p", "oz-task-1")
    assert not is_pod_name("oz-task-1-x7k2", "oz-task-1")
    assert not is_pod_name("oz-task-1-more-x7k2p", "oz-task-1")
    long = "j" * 63
    assert is_pod_name("j" * 58 + "x7k2p", long)
    assert not is_pod_name(f"{long}-x7k2p", long)
