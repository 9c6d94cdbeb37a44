from oz_agent_worker.worker.telemetry.resource import WorkerResource


def test_a_worker_runs_any_number_of_tasks_unless_a_limit_is_given() -> None:
    resource = WorkerResource(worker_id="w", version="1.2.3", backend="direct")
    assert resource.max_concurrent_tasks == 0
