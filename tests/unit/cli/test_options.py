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


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "t", "T", "1"])
def test_a_flag_takes_true(value: str) -> None:
    assert understood(f"--no-cleanup={value}") == understood("--no-cleanup") != understood()
    assert understood(f"--strict={value}") == understood("--strict") != understood()


@pytest.mark.parametrize("value", ["false", "False", "FALSE", "f", "F", "0", ""])
def test_a_flag_takes_false(value: str) -> None:
    assert understood(f"--no-cleanup={value}") == understood()
    assert understood(f"--exit-on-auth-failure={value}") == understood()


def test_the_last_of_a_flag_counts() -> None:
    assert understood("--no-cleanup", "--no-cleanup=false") == understood()
    assert understood("--no-cleanup=false", "--no-cleanup") == understood("--no-cleanup")


def test_another_value_of_a_flag_is_refused() -> None:
    done = CliRunner().invoke(command, ["--no-cleanup=maybe"])
    assert done.exit_code == 2
    assert "Invalid value for '--no-cleanup': 'maybe' is not true or false" in done.output


def test_a_flag_does_not_take_the_next_argument() -> None:
    done = CliRunner().invoke(command, ["--no-cleanup", "false"])
    assert "unexpected extra argument (false)" in done.output


@pytest.mark.parametrize("text", ["0s", "-5s", "1:30", "300000y"])
def test_a_grace_is_a_duration_above_0(text: str) -> None:
    """P14: a duration that no clock can hold is refused as one."""
    done = CliRunner().invoke(command, ["--shutdown-grace", text])
    assert done.exit_code == 2
    assert f"{text!r} is not a duration such as 90s, 10m or 1h30m" in done.output
