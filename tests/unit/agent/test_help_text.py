import pytest

from oz_agent_worker import __version__
from oz_agent_worker.agent.errors import AgentExitCode
from oz_agent_worker.agent.harnesses import HARNESSES
from oz_agent_worker.agent.help_text import run_help
from oz_agent_worker.agent.main import main
from oz_agent_worker.contract import AGENT_FLAGS


def test_the_help_names_every_flag_harness_and_exit_code() -> None:
    text = run_help()
    for flag in AGENT_FLAGS:
        assert f"  {flag.name}" in text
    for name in HARNESSES:
        assert f"\n  {name} " in text
    for code in (
        AgentExitCode.USAGE,
        AgentExitCode.NOT_FETCHED,
        AgentExitCode.NOT_EXECUTABLE,
        AgentExitCode.NOT_FOUND,
    ):
        assert f"\n  {code.value} " in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_help_and_version_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "oz-agent agent run --task-id ID" in capsys.readouterr().out
    assert main(["agent", "run", "--help"]) == 0
    assert "Exit codes:" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"oz-agent {__version__}\n"


def test_a_bad_command_line_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "walk"]) == AgentExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("oz-agent: error: unknown command 'agent walk'")
    assert captured.err.count("\n") == 1
