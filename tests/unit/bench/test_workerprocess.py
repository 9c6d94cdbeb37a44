from pathlib import Path

import yaml

from oz_agent_worker.config.load import read_file
from tests.bench.workerprocess import WorkerFiles


def test_the_config_file_is_one_that_the_worker_takes(tmp_path: Path) -> None:
    files = WorkerFiles(tmp_path / "kubeconfig", "bench", tmp_path)
    path = files.write_config()
    config, problems = read_file(str(path))
    assert problems.found == []
    assert config.backend.kubernetes is not None
    assert config.backend.kubernetes.namespace == "bench"
    assert yaml.safe_load(path.read_text())["backend"]["kubernetes"]["kubeconfig"] == str(files.kubeconfig)
