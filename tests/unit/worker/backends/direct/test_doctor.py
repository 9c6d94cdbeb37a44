"""What ``doctor`` says of a host's journal."""

import os
from pathlib import Path

import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.direct.agent_program import AgentSources
from oz_agent_worker.worker.backends.direct.doctor import check_journal, direct_checks
from oz_agent_worker.worker.backends.direct.records import DirectState, first_state
from oz_agent_worker.worker.backends.journal import Journal
from oz_agent_worker.worker.checks import CheckResult, Severity, ok, run_checks
from oz_agent_worker.worker.config.schema import DirectConfig
from oz_agent_worker.worker.peer import ControlPlanePeer

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".journal-w"


def test_a_journal_that_is_not_there_yet_is_left_to_the_worker(folder: Path) -> None:
    assert check_journal(folder) == ok(f"{folder} can be created")
    assert list(folder.parent.iterdir()) == []


def test_a_journal_that_is_in_use_is_left_as_it_is(folder: Path) -> None:
    journal = Journal(folder, DirectState)
    journal.prepare()
    entry = journal.create(ExecutionKey("run", "run-1"), first_state("run", None))
    try:
        assert check_journal(folder) == ok(str(folder))
        assert len(list(folder.iterdir())) == 1
    finally:
        entry.remove()


def test_a_journal_that_others_could_write_is_closed_to_them_and_reported(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o775)
    check_result = check_journal(folder)
    assert check_result.severity is Severity.WARN
    assert "mode 0775" in check_result.detail
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def stranger(folder: Path) -> Path:
    """Another user's folder."""
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder away")
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder


def test_a_journal_of_another_user_holds_no_records(stranger: Path) -> None:
    with pytest.raises(PreflightError, match="cannot hold the records of tasks: it belongs to another user"):
        check_journal(stranger)


@pytest.mark.parametrize("what", ["a file", "a dangling link"])
def test_what_is_no_folder_holds_no_records(folder: Path, what: str) -> None:
    if what == "a file":
        folder.touch()
    else:
        folder.symlink_to(folder.parent / "nowhere")
    with pytest.raises(PreflightError, match="cannot hold the records of tasks"):
        check_journal(folder)


async def test_the_journal_is_that_of_this_worker_s_id(tmp_path: Path) -> None:
    async def check_result(worker_id: str) -> CheckResult:
        config = DirectConfig(workspace_root=str(tmp_path))
        agents = AgentSources(configured=None, environ={})
        checks = direct_checks(config, worker_id=worker_id, agents=agents)
        (check,) = [check for check in checks if check.name == "journal"]
        assert check.needs == ("workspaces",)
        return await check.run()

    assert (await check_result("a")).detail != (await check_result("b")).detail


@pytest.mark.parametrize(
    ("url", "severity", "detail"),
    [
        ("https://oz.test", Severity.OK, "{}/oz-agent (the bundled agent, because `oz` is not on PATH)"),
        ("https://app.warp.dev", Severity.FAIL, "https://app.warp.dev is the public service"),
    ],
)
async def test_which_agent_will_run_is_said(
    tmp_path: Path, url: str, severity: Severity, detail: str
) -> None:
    bundled = tmp_path / "oz-agent"
    bundled.touch(mode=0o755)
    agents = AgentSources(
        configured=None, environ={"PATH": "/nowhere"}, bundled=str(bundled), peer=ControlPlanePeer(url)
    )
    config = DirectConfig(workspace_root=str(tmp_path / "ws"))
    (check,) = [c for c in direct_checks(config, worker_id="w", agents=agents) if c.name == "agent"]
    ((_, result),) = [found async for found in run_checks([check])]
    assert result.severity is severity
    assert detail.format(tmp_path) in result.detail
