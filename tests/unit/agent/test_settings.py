import pytest

from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.settings import AgentSettings, decode_settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert decode_settings({}) == AgentSettings()


def test_every_variable() -> None:
    environment = {
        "WARP_API_KEY": " key\n",
        "TASK_ID": "t",
        "WARP_SERVER_ROOT_URL": "http://h",
        "OZ_AGENT_DEFAULT_HARNESS": "claude",
        "OZ_AGENT_COMMAND": "x {prompt}",
        "OZ_WORKSPACE_ROOT": "/workspace",
        "OZ_AGENT_GRACE_SECONDS": "0.5",
        "OZ_AGENT_FETCH_SECONDS": "3",
        "OZ_AGENT_QUIET": "1",
    }
    assert decode_settings(environment) == AgentSettings(
        token="key",
        task_id="t",
        server_root_url="http://h",
        default_harness="claude",
        command="x {prompt}",
        workspace_root="/workspace",
        grace=0.5,
        fetch_budget=3.0,
        quiet=True,
    )


def test_quiet_can_be_switched_off() -> None:
    assert not decode_settings({"OZ_AGENT_QUIET": "0"}).quiet


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_bad_number_names_its_variable(value: str) -> None:
    with pytest.raises(AgentUsageError, match="OZ_AGENT_GRACE_SECONDS"):
        decode_settings({"OZ_AGENT_GRACE_SECONDS": value})


def test_the_token_is_not_in_the_repr() -> None:
    assert "hush" not in repr(decode_settings({"WARP_API_KEY": "hush"}))
