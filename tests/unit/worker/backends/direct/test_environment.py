import os
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.direct.dotenv import DotenvError
from oz_agent_worker.worker.backends.direct.environment import (
    MAX_ENVIRONMENT_FILE,
    TaskEnvironment,
    read_environment_file,
    task_environment,
)
from oz_agent_worker.worker.backends.direct.workspace import Workspace
from tests.integration.worker.backends.harness import task_spec

WORKER = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "WARP_API_KEY": "worker", "OZ_RUN_ID": "outer"}
WORKSPACE = Workspace(folder=Path("/ws/t"), directory=Path("/ws/t"), reused=False, lock=-1)
OWN = {
    "OZ_WORKSPACE_ROOT": "/ws/t",
    "OZ_WORKER_BACKEND": "direct",
    "OZ_RUN_ID": "t",
    "OZ_ENVIRONMENT_FILE": "/ws/t/.oz/environment",
    "OZ_EXECUTION_MARK": "m",
}
FILES = {"GIT_CONFIG_GLOBAL": "/ws/t/.oz/gitconfig", "OZ_AGENT_GRACE_SECONDS": "8"}


def layers(**fields: Any) -> TaskEnvironment:
    """The layers of a task with these fields."""
    spec = task_spec(task_id="t", **fields)
    return task_environment(
        spec.key, spec.harness, WORKSPACE, grace=10.0, mark="m", variables=spec.environment
    )


def test_the_agent_inherits_little_and_gets_the_task_and_the_backends_own() -> None:
    environment = layers(environment={"A": "1"})
    assert environment.of_agent(WORKER, {}) == {"HOME": "/home/w", "PATH": "/bin", "A": "1"} | FILES | OWN


def test_a_command_inherits_everything_but_the_workers_key() -> None:
    environment = layers(environment={"A": "1"})
    expected = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "A": "1"} | FILES | OWN
    assert environment.of_command(WORKER, {}) == expected


def test_later_layers_win() -> None:
    every = {"HOME": "task", "WARP_API_KEY": "task", "GIT_CONFIG_GLOBAL": "task", "A": "task", "B": "task"}
    environment = layers(environment=every | OWN)
    exported = {name: Secret("setup") for name in ("B", "C", *OWN)}
    expected = {"HOME": "task", "WARP_API_KEY": "task", "A": "task", "B": "setup", "C": "setup"} | FILES | OWN
    assert environment.of_agent(WORKER, exported) == expected | {"PATH": "/bin"}
    assert environment.of_command(WORKER, exported) == expected | {"PATH": "/bin", "LANG": "C"}


def test_a_setup_command_may_choose_the_files_of_git_and_the_harness() -> None:
    environment = layers(harness="codex")
    exported = {"GIT_CONFIG_GLOBAL": Secret("/etc/git"), "CODEX_HOME": Secret("/home/w/.codex")}
    found = environment.of_agent(WORKER, exported)
    assert (found["GIT_CONFIG_GLOBAL"], found["CODEX_HOME"]) == ("/etc/git", "/home/w/.codex")


@pytest.mark.parametrize(
    ("harness", "homes"),
    [
        (None, {}),
        ("gemini", {}),
        ("claude", {"CLAUDE_CONFIG_DIR": "/ws/t/.oz/claude"}),
        ("codex", {"CODEX_HOME": "/ws/t/.oz/codex"}),
    ],
)
def test_a_harness_has_its_home_in_the_workspace(harness: str | None, homes: dict[str, str]) -> None:
    environment = layers(harness=harness)
    assert environment.of_agent({}, {}) == FILES | homes | OWN


def test_what_a_dead_worker_leaves_is_all_but_the_tasks_own_variables() -> None:
    found = task_environment(ExecutionKey("t", "t"), "codex", WORKSPACE, grace=10.0, mark="m")
    homes = {"CODEX_HOME": "/ws/t/.oz/codex"}
    expected = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "C": "setup"} | FILES | homes | OWN
    assert found.of_command(WORKER, {"C": Secret("setup")}) == expected


def test_a_representation_shows_no_value() -> None:
    environment = layers(environment={"KEY": "hidden"})
    assert "hidden" not in repr(environment)


def test_an_environment_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_bytes(b"A=1\nB=caf\xe9\n")
    found = read_environment_file(path)
    assert found["A"] == Secret("1")
    assert os.fsencode(found["B"].reveal()) == b"caf\xe9"


def test_a_file_that_was_removed_exports_nothing(tmp_path: Path) -> None:
    assert read_environment_file(tmp_path / "environment") == {}


def test_what_is_no_sound_file_is_an_error_and_never_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read_environment_file(path)
    path.unlink()
    path.write_bytes(b"#" * (MAX_ENVIRONMENT_FILE + 1))
    with pytest.raises(OSError, match="larger than"):
        read_environment_file(path)
    path.write_text("A=1\nnonsense")
    with pytest.raises(DotenvError, match="line 2"):
        read_environment_file(path)
