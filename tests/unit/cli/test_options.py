from typing import Any

import click
import pytest
from click.testing import CliRunner

from oz_agent_worker.cli.options import (
    flags_from,
    process_options,
    worker_options,
)


@click.command
@worker_options
@process_options
def command(log_level: str, log_format: str, health_port: int, health_host: str, **options: Any) -> None:
    """Print what was understood."""
    process = [options.pop(name) for name in ("exit_on_auth_failure", "shutdown_grace")]
    click.echo(f"{flags_from(options)} {log_level} {log_format} {health_port} {health_host} {process}")


def understood(*arguments: str, **environment: str) -> str:
    done = CliRunner(env=environment).invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("option", [param.opts[0] for param in command.params if not param.is_flag])  # type: ignore[attr-defined]
def test_an_empty_value_counts_as_not_given(option: str) -> None:
    assert understood(option, "") == understood()


def test_an_empty_value_defers_to_the_environment() -> None:
    given = understood("--log-format", "", OZ_WORKER_LOG_FORMAT="json")
    assert given == understood("--log-format", "json")


def test_a_value_counts() -> None:
    assert understood("--backend", "direct", "--log-level", "debug") != understood()
