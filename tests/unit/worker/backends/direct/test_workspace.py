import contextlib
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.direct.workspace import (
    Workspace,
    WorkspaceError,
    WorkspaceRoot,
    is_safe_component,
    remove_tree,
)
from oz_agent_worker.worker.backends.journal import NotPrivateError

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> WorkspaceRoot:
    root = WorkspaceRoot(tmp_path / "ws", holder="worker w")
    root.prepare()
    return root


def key(task_id: str, execution_id: str | None = None) -> ExecutionKey:
    return ExecutionKey(task_id, execution_id or task_id)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextlib.contextmanager
def taken(root: WorkspaceRoot, task_id: str, execution_id: str | None = None) -> Iterator[Workspace]:
    workspace = root.open(key(task_id, execution_id))
    yield workspace
    workspace.keep()


@pytest.mark.parametrize("name", ["task", "a b", "Ünï", "a..b", "x" * 255, "ü" * 127, "-rf", "~"])
def test_a_name_that_is_one(name: str) -> None:
    assert is_safe_component(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".oz", "a/b", "/", "../x", "a\0b", "x" * 256, "ü" * 128, "\udc80/"]
)
def test_a_name_that_is_none(name: str) -> None:
    assert not is_safe_component(name)


def test_the_root_is_made_for_this_user_alone(tmp_path: Path) -> None:
    WorkspaceRoot(tmp_path / "a" / "ws", holder="w").prepare()
    assert mode(tmp_path / "a" / "ws") == 0o700
    assert list((tmp_path / "a" / "ws").iterdir()) == []


def test_an_existing_root_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    WorkspaceRoot(tmp_path, holder="w").prepare()
    assert mode(tmp_path) == 0o755


def test_a_root_that_cannot_be_is_a_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match=r"workspace_root: .*/file/ws cannot hold workspaces: Not a dir"):
        WorkspaceRoot(tmp_path / "file" / "ws", holder="w").prepare()


def test_a_target_that_is_missing_is_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"target_dir: .*/missing is not a folder"):
        WorkspaceRoot(tmp_path / "ws", tmp_path / "missing", holder="w").prepare()


def test_a_workspace_is_named_after_its_run_and_private(root: WorkspaceRoot, tmp_path: Path) -> None:
    workspace = root.open(key("run", "execution"), "claude")
    assert workspace.folder == workspace.directory == tmp_path / "ws" / "run"
    assert list(workspace.folder.iterdir()) == []
    assert not workspace.reused
    assert mode(workspace.folder) == mode(workspace.harness_home("claude")) == 0o700
    assert mode(workspace.environment_file) == mode(workspace.git_config) == 0o600
    assert workspace.environment_file.read_bytes() == workspace.git_config.read_bytes() == b""
    workspace.keep()


def test_a_mask_does_not_change_the_modes(root: WorkspaceRoot) -> None:
    before = os.umask(0o777)
    try:
        with taken(root, "run") as workspace:
            assert mode(workspace.folder) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("task_id", ["", "..", "a/b", ".removed-x", "x" * 256])
def test_an_id_that_is_no_name_has_no_workspace(root: WorkspaceRoot, task_id: str) -> None:
    with pytest.raises(WorkspaceError, match="names no folder"):
        root.open(ExecutionKey(task_id, "execution"))


def test_a_follow_up_finds_what_was_left_but_no_variables(root: WorkspaceRoot) -> None:
    with taken(root, "run", "first") as workspace:
        (workspace.folder / "work").touch()
        workspace.environment_file.write_text("A=1")
        workspace.folder.chmod(0o777)
    with taken(root, "run", "second") as workspace:
        assert workspace.reused
        assert (workspace.folder / "work").exists()
        assert workspace.environment_file.read_bytes() == b""
        assert mode(workspace.folder) == 0o700


def test_two_executions_at_a_time_have_a_folder_each(
    root: WorkspaceRoot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with taken(root, "run", "first") as first, taken(root, "run", "second") as second:
        assert first.folder.name == "run"
        assert second.folder.name.startswith("run-")
        assert "ws/run is held by worker w" in caplog.text
        with pytest.raises(WorkspaceError, match="another execution holds"):
            root.open(key("run", "second"))


def test_the_longest_name_has_room_for_a_second_execution(root: WorkspaceRoot) -> None:
    run = "ü" * 127
    with taken(root, run, "first"), taken(root, run, "second") as second:
        assert second.folder.is_dir()


def test_another_worker_sees_the_lock_and_a_dead_ones_is_none(root: WorkspaceRoot, tmp_path: Path) -> None:
    other = WorkspaceRoot(tmp_path / "ws", holder="other")
    with taken(root, "run", "first"), taken(other, "run", "second") as second:
        assert second.folder.name != "run"
    with taken(other, "run", "third") as third:  # the lock's file is still there
        assert third.folder.name == "run"


def test_of_the_holders_name_a_part_is_logged(root: WorkspaceRoot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with taken(root, "run", "first") as first:
        (first.environment_file.parent / "lock").write_text("long" * 1000)
        with taken(root, "run", "second"):
            pass
    assert f"{first.folder} is held by longlong" in caplog.text
    assert caplog.text.count("long") == 64


@pytest.mark.timeout(10)
def test_a_pipe_in_place_of_the_lock_does_not_block(root: WorkspaceRoot) -> None:
    with taken(root, "run", "first") as first:
        pass
    lock = first.environment_file.parent / "lock"
    lock.unlink()
    os.mkfifo(lock)
    with taken(root, "run", "second") as second, taken(root, "run", "third") as third:
        assert second.folder == first.folder
        assert third.folder != first.folder


def test_a_workspace_on_a_read_only_file_system_is_not_reopened(
    root: WorkspaceRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken(root, "run"):
        pass
    real = os.open

    def read_only(path: Any, flags: int, *more: Any, **keywords: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *more, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only"):
        root.reopen("run")


# What somebody else left in a workspace's place


def test_a_link_in_its_place_is_left_alone(root: WorkspaceRoot, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (tmp_path / "ws" / "run").symlink_to(elsewhere)
    with taken(root, "run") as workspace:
        assert workspace.folder.name.startswith("run-")
    assert list(elsewhere.iterdir()) == []
    assert mode(elsewhere) == 0o755


def spoil_link(workspace: Workspace, victim: Path) -> None:
    lock = workspace.private / "lock"
    lock.unlink()
    lock.symlink_to(victim)


def spoil_private(workspace: Workspace, victim: Path) -> None:
    shutil.rmtree(workspace.private)
    workspace.private.symlink_to(victim.parent)


def spoil_folder(workspace: Workspace, victim: Path) -> None:
    workspace.folder.rmdir()
    workspace.folder.touch()


def spoil_lock(workspace: Workspace, victim: Path) -> None:
    (workspace.private / "lock").unlink()
    (workspace.private / "lock").mkdir()


def spoil_file(workspace: Workspace, victim: Path) -> None:
    workspace.git_config.unlink()
    workspace.git_config.mkdir()


def give_away_folder(workspace: Workspace, victim: Path) -> None:
    os.chown(workspace.folder, NOBODY, NOBODY)


def give_away_private(workspace: Workspace, victim: Path) -> None:
    os.chown(workspace.private, NOBODY, NOBODY)


@pytest.mark.parametrize(
    "spoil",
    [spoil_link, spoil_private, spoil_folder, spoil_lock, spoil_file, give_away_folder, give_away_private],
)
def test_a_task_whose_folder_somebody_spoiled_runs_beside_it(
    root: WorkspaceRoot,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Workspace, Path], None],
) -> None:
    if spoil in (give_away_folder, give_away_private) and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with taken(root, "run", "first") as first:
        pass
    spoil(first, victim)
    names: list[str] = []
    workspace = root.open(key("run", "second"), chosen=names.append)
    assert workspace.folder.name.startswith("run-")
    assert names == ["run", workspace.folder.name]
    assert "Task run/second gets a folder beside run, which cannot be used" in caplog.text
    workspace.remove()
    assert victim.read_text() == "untouched"


def test_links_in_place_of_its_files_are_replaced(root: WorkspaceRoot, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with taken(root, "run") as workspace:
        pass
    workspace.environment_file.unlink()
    workspace.environment_file.symlink_to(victim)
    with taken(root, "run") as again:
        assert again.folder == workspace.folder
        assert not again.environment_file.is_symlink()
    assert victim.read_text() == "untouched"


def test_a_task_both_of_whose_folders_are_spoiled_is_refused(root: WorkspaceRoot, tmp_path: Path) -> None:
    with taken(root, "run", "first"), taken(root, "run", "second") as second:
        pass
    shutil.rmtree(tmp_path / "ws" / "run")
    (tmp_path / "ws" / "run").touch()
    shutil.rmtree(second.folder)
    second.folder.touch()
    with pytest.raises(NotPrivateError, match="is not a folder"):
        root.open(key("run", "second"))


def test_a_refusal_leaves_no_lock_behind(root: WorkspaceRoot) -> None:
    with taken(root, "run") as workspace:
        pass
    workspace.git_config.unlink()
    workspace.git_config.mkdir()
    with taken(root, "run") as beside:
        assert beside.folder != workspace.folder
    workspace.git_config.rmdir()
    with taken(root, "run") as again:
        assert again.folder == workspace.folder


def test_links_in_a_circle_are_no_end_of_the_worker(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    root = WorkspaceRoot(tmp_path / "ws", target, holder="w")
    root.prepare()
    (tmp_path / "ws" / "run").symlink_to(tmp_path / "ws" / "back")
    (tmp_path / "ws" / "back").symlink_to(tmp_path / "ws" / "run")
    with taken(root, "run") as workspace:
        assert workspace.folder.name.startswith("run-")


# Its end


def test_what_is_private_goes_when_its_folder_is_gone(root: WorkspaceRoot, tmp_path: Path) -> None:
    with taken(root, "gone") as gone, taken(root, "kept") as kept:
        pass
    gone.folder.rmdir()  # as an operator's cron job does
    with taken(root, "held") as held:
        held.folder.rmdir()
        root.remove_leftovers()
        left = {path.name for path in (tmp_path / "ws").iterdir()}
        assert left == {"kept", kept.private.name, held.private.name}


def test_a_removal_that_was_cut_between_the_folders_is_taken_up_again(
    root: WorkspaceRoot, tmp_path: Path
) -> None:
    with taken(root, "run") as workspace:
        pass
    workspace.folder.rename(tmp_path / "ws" / ".removed-1")
    again = root.reopen("run")
    assert again is not None
    again.remove()
    root.remove_leftovers()
    assert list((tmp_path / "ws").iterdir()) == []
    assert root.reopen("run") is None


def test_a_root_that_vanished_is_the_systems_error(root: WorkspaceRoot, tmp_path: Path) -> None:
    (tmp_path / "ws").rmdir()
    with pytest.raises(FileNotFoundError):
        root.open(key("run"))


def test_with_a_target_tasks_run_there_and_their_files_are_separate(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    root = WorkspaceRoot(tmp_path / "ws", target, holder="w")
    root.prepare()
    workspace = root.open(key("run"))
    assert workspace.directory == target
    assert workspace.git_config.is_relative_to(tmp_path / "ws")
    (target / "kept").touch()
    workspace.remove()
    assert [p.name for p in target.iterdir()] == ["kept"]
    assert list((tmp_path / "ws").iterdir()) == []


@pytest.mark.parametrize("inside", ["shared", "shared/deep"])
def test_a_target_in_the_root_is_never_taken_for_a_workspace(tmp_path: Path, inside: str) -> None:
    target = tmp_path / "ws" / inside
    target.mkdir(parents=True)
    root = WorkspaceRoot(tmp_path / "ws", target, holder="w")
    root.prepare()
    with pytest.raises(WorkspaceError, match="holds target_dir"):
        root.open(key("shared"))
    root.open(key("run")).remove()
    assert target.is_dir()


def test_removal_follows_no_link(root: WorkspaceRoot, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    workspace = root.open(key("run"))
    (workspace.folder / "link").symlink_to(elsewhere)
    workspace.remove()
    assert list((tmp_path / "ws").iterdir()) == []
    workspace = root.open(key("run"))
    shutil.rmtree(workspace.folder)
    workspace.folder.symlink_to(elsewhere)
    workspace.remove()
    assert list((tmp_path / "ws").iterdir()) == []
    assert (elsewhere / "kept").exists()


def test_removing_what_the_task_removed_is_no_error(root: WorkspaceRoot) -> None:
    workspace = root.open(key("run"))
    shutil.rmtree(workspace.folder)
    workspace.remove()


def test_the_rest_of_an_interrupted_removal_goes_and_nothing_else(
    root: WorkspaceRoot, tmp_path: Path
) -> None:
    (tmp_path / "ws" / ".removed-1" / "deep").mkdir(parents=True)
    (tmp_path / "ws" / "run").mkdir()
    root.remove_leftovers()
    assert [p.name for p in (tmp_path / "ws").iterdir()] == ["run"]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whom modes bind."""
    folder = Path(tempfile.mkdtemp())
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    os.chown(folder, user, -1)
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield folder
    finally:
        os.seteuid(before)
        shutil.rmtree(folder, ignore_errors=True)


def test_read_only_folders_are_removed_too(unprivileged: Path) -> None:
    tree = unprivileged / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch(mode=0o400)
    (tree / "a" / "out").symlink_to(unprivileged)
    for folder, access in ((tree / "a" / "b", 0o500), (tree / "a", 0o000), (tree, 0o500)):
        folder.chmod(access)
    with pytest.raises(PermissionError):
        shutil.rmtree(tree)
    remove_tree(tree)
    assert list(unprivileged.iterdir()) == []


def test_a_tree_deeper_than_the_stack_is_removed(root: WorkspaceRoot, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    workspace = root.open(key("run"))
    descriptor = os.open(workspace.folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.symlink(kept, "link", dir_fd=deeper)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    workspace.remove()
    assert list((tmp_path / "ws").iterdir()) == []
    assert (kept / "file").exists()


def test_a_file_in_place_of_a_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remove_tree(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
