from pathlib import Path

import pytest

from oz_agent_worker.agent.errors import HarnessNotExecutableError, HarnessNotFoundError
from oz_agent_worker.agent.find_program import find_program, path_with_sidecars, sidecar_directories
from oz_agent_worker.agent.harnesses import HARNESSES

CLAUDE = HARNESSES["claude"]


def program(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(mode)
    return path


def test_the_first_executable_on_the_path_is_found(tmp_path: Path) -> None:
    program(tmp_path / "a/claude", 0o644)
    (tmp_path / "b/claude").mkdir(parents=True)
    found = program(tmp_path / "c/claude", 0o755)
    program(tmp_path / "d/claude", 0o755)
    path = ":".join(str(tmp_path / d) for d in "abcd")
    assert find_program("claude", CLAUDE, {"PATH": path}) == str(found)


def test_a_missing_program_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(HarnessNotFoundError, match=r"'claude' was not found on PATH .*npm install -g"):
        find_program("claude", CLAUDE, {"PATH": str(tmp_path)})


def test_the_working_directory_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "claude", 0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessNotFoundError):
        find_program("claude", CLAUDE, {"PATH": ":/nowhere:"})


def test_a_file_that_is_not_executable_has_an_error_of_its_own(tmp_path: Path) -> None:
    path = program(tmp_path / "claude", 0o644)
    for name in ("claude", str(path)):
        with pytest.raises(HarnessNotExecutableError, match="is not executable"):
            find_program(name, CLAUDE, {"PATH": str(tmp_path)})


def test_directories_of_a_sidecar() -> None:
    assert sidecar_directories("claude") == (
        "/mnt/claude-cli-sidecar",
        "/mnt/claude-cli-sidecar/bin",
        "/mnt/claude-cli-sidecar/usr/local/bin",
        "/mnt/claude-cli-sidecar/usr/bin",
        "/mnt/claude-cli-sidecar/node_modules/.bin",
    )


def test_sidecars_are_searched_before_the_path_and_come_last_in_the_childs_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = program(tmp_path / "sidecar/bin/claude", 0o755)
    program(tmp_path / "image/claude", 0o755)
    monkeypatch.setattr(
        "oz_agent_worker.agent.find_program.sidecar_directories",
        lambda _: (str(tmp_path / "sidecar/bin"), str(tmp_path / "sidecar/absent")),
    )
    environment = {"PATH": str(tmp_path / "image")}
    assert find_program("claude", CLAUDE, environment) == str(sidecar)
    assert path_with_sidecars(environment, "claude") == f"{tmp_path}/image:{tmp_path}/sidecar/bin"


def test_default_path() -> None:
    assert path_with_sidecars({}, "shell") == "/usr/local/bin:/usr/bin:/bin"
