"""The flags that are about the worker's process."""

import click
import pytest

from oz_agent_worker.cli.main import root
from oz_agent_worker.cli.serve import worker_options_from
from oz_agent_worker.worker.app import WorkerOptions
from oz_agent_worker.worker.probes.server import Endpoint


def grace(*arguments: str) -> float:
    """The grace that a command line asks for."""
    found = root.make_context("oz-agent-worker", list(arguments)).params["shutdown_grace"]
    assert isinstance(found, float)
    return found


def test_the_grace_is_a_flag_or_a_variable_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OZ_WORKER_SHUTDOWN_GRACE", raising=False)
    assert grace() == WorkerOptions().shutdown_grace
    monkeypatch.setenv("OZ_WORKER_SHUTDOWN_GRACE", "2m")
    assert grace() == 120.0
    assert grace("--shutdown-grace=1m30s") == 90.0


@pytest.mark.parametrize("text", ["soon", "30", "-5s", "0s"])
def test_a_grace_that_is_none_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{text}' is not a duration such as 90s") as refused:
        grace(f"--shutdown-grace={text}")
    assert refused.value.param is not None
    assert refused.value.param.opts == ["--shutdown-grace"]


def test_what_the_flags_ask_of_the_worker() -> None:
    assert worker_options_from(0, "::", False, 90.0) == WorkerOptions(shutdown_grace=90.0)
    assert worker_options_from(8081, "::", True, 90.0) == WorkerOptions(
        shutdown_grace=90.0, exit_on_auth_failure=True, probes=Endpoint("::", 8081)
    )
