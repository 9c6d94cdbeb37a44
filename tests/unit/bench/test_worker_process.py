from pathlib import Path

import yaml

from oz_agent_worker.worker.config.load import read_file
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.bench.worker_process import Start, WorkerFiles, preflight_seconds


def test_the_config_file_is_one_that_the_worker_takes(tmp_path: Path) -> None:
    files = WorkerFiles(tmp_path / "kubeconfig", "bench", tmp_path)
    path = files.write_config()
    config, problems = read_file(str(path))
    assert problems.found == []
    kubernetes = config.backend["kubernetes"]
    assert isinstance(kubernetes, KubernetesConfig)
    assert kubernetes.namespace == "bench"
    assert yaml.safe_load(path.read_text())["backend"]["kubernetes"]["kubeconfig"] == str(files.kubeconfig)


def test_a_start_is_counted_without_its_preflight() -> None:
    log = (
        "2026-01-31T12:00:00Z INFO  Preflight passed in 1.3 s\n2026-01-31T12:00:00Z INFO  Listening for tasks"
    )
    assert preflight_seconds(log) == 1.3
    assert Start(whole=2.0, preflight=1.25).own == 0.75


def test_a_worker_without_a_preflight_spent_nothing_on_it() -> None:
    assert preflight_seconds("Listening for tasks") == 0.0
