from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.direct.environment import TaskEnvironment, task_environment
from oz_agent_worker.worker.backends.direct.workspace import Workspace
from tests.integration.worker.backends.harness import task_spec

WORKER = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "WARP_API_KEY": "worker", "OZ_RUN_ID": "outer"}
WORKSPACE = Workspace(
    folder=Path("/ws/t"), private=Path("/ws/own"), directory=Path("/ws/t"), reused=False, lock=-1
)
OWN = {
    "OZ_WORKSPACE_ROOT": "/ws/t",
    "OZ_WORKER_BACKEND": "direct",
    "OZ_RUN_ID": "t",
    "OZ_ENVIRONMENT_FILE": "/ws/own/environment",
    "OZ_EXECUTION_MARK": "m",
    "GIT_CONFIG_GLOBAL": "/ws/own/gitconfig",
}
FILES = {"OZ_AGENT_GRACE_SECONDS": "8"}


def layers(**fields: Any) -> TaskEnvironment:
    """The layers of a task with these fields."""
    spec = task_spec(task_id="t", **fields)
    return task_environment(
        spec.key, spec.harness, WORKSPACE, grace=10.0, mark="m", variables=spec.environment
    )


def test_the_agent_inherits_little_and_gets_the_task_and_the_backends_own() -> None:
    environment = layers(environment={"A": "1"})
    assert environment.of_agent(WORKER, {}) == {"HOME": "/home/w", "PATH": "/bin", "A": "1"} | FILES | OWN


def test_the_setup_command_inherits_everything_but_the_workers_key() -> None:
    environment = layers(environment={"A": "1"})
    expected = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "A": "1"} | FILES | OWN
    assert environment.of_setup(WORKER) == expected


def test_the_teardown_command_has_no_variable_of_the_task() -> None:
    environment = layers(environment={"A": "1", "PATH": "/task", "LD_PRELOAD": "/task.so"})
    expected = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "C": "setup"} | FILES | OWN
    assert environment.of_teardown(WORKER, {"C": Secret("setup")}) == expected


def test_later_layers_win() -> None:
    every = {"HOME": "task", "WARP_API_KEY": "task", "GIT_CONFIG_GLOBAL": "task", "A": "task", "B": "task"}
    environment = layers(environment=every | OWN)
    exported = {name: Secret("setup") for name in ("B", "C", *OWN)}
    given = {"HOME": "task", "WARP_API_KEY": "task", "A": "task"}
    setup = {"B": "setup", "C": "setup"}
    assert environment.of_agent(WORKER, exported) == given | {"PATH": "/bin"} | setup | FILES | OWN
    assert environment.of_setup(WORKER) == given | {"PATH": "/bin", "LANG": "C", "B": "task"} | FILES | OWN
    inherited = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C"}
    assert environment.of_teardown(WORKER, exported) == inherited | setup | FILES | OWN


@pytest.mark.parametrize(("harness", "home"), [("codex", "CODEX_HOME"), ("claude", "CLAUDE_CONFIG_DIR")])
def test_a_setup_command_may_choose_the_home_of_the_harness_and_the_task_may_not(
    harness: str, home: str
) -> None:
    environment = layers(harness=harness, environment={home: "/task"})
    assert environment.of_agent(WORKER, {})[home] == f"/ws/own/{harness}"
    assert environment.of_agent(WORKER, {home: Secret("/setup")})[home] == "/setup"


@pytest.mark.parametrize(
    ("harness", "homes"),
    [
        (None, {}),
        ("gemini", {}),
        ("claude", {"CLAUDE_CONFIG_DIR": "/ws/own/claude"}),
        ("codex", {"CODEX_HOME": "/ws/own/codex"}),
    ],
)
def test_a_harness_has_its_home_in_the_workspace(harness: str | None, homes: dict[str, str]) -> None:
    environment = layers(harness=harness)
    assert environment.of_agent({}, {}) == FILES | homes | OWN


def test_what_a_dead_worker_leaves_is_all_but_the_tasks_own_variables() -> None:
    found = task_environment(ExecutionKey("t", "t"), "codex", WORKSPACE, grace=10.0, mark="m")
    homes = {"CODEX_HOME": "/ws/own/codex"}
    expected = {"HOME": "/home/w", "PATH": "/bin", "LANG": "C", "C": "setup"} | FILES | homes | OWN
    assert found.of_teardown(WORKER, {"C": Secret("setup")}) == expected


def test_a_representation_shows_no_value() -> None:
    environment = layers(environment={"KEY": "hidden"})
    assert "hidden" not in repr(environment)


def test_what_the_setup_command_was_given_counts_for_what_its_file_says(tmp_path: Path) -> None:
    workspace = Workspace(
        folder=tmp_path, private=tmp_path / "own", directory=tmp_path, reused=False, lock=-1
    )
    workspace.environment_file.parent.mkdir()
    workspace.environment_file.write_text("A=$LANG-$T\nGIT_CONFIG_GLOBAL=/etc/gitconfig\nOZ_RUN_ID=t\n")
    spec = task_spec(task_id="t", environment={"T": "task"})
    environment = task_environment(
        spec.key, None, workspace, grace=10.0, mark="m", variables=spec.environment
    )
    file = environment.read_file(WORKER)
    assert dict(file.variables) == {"A": Secret("C-task")}
    assert [str(note).partition(": the task")[0] for note in file.notes] == ["line 2: GIT_CONFIG_GLOBAL"]
