"""The registry of backends agrees with the config file and with the command line."""

from pathlib import Path

import click
import pytest

from oz_agent_worker.cli.main import root
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import UsageError
from oz_agent_worker.worker.app import WorkerOptions, build_backend
from oz_agent_worker.worker.backends.registry import BACKENDS, implemented_backends
from oz_agent_worker.worker.config.load import WorkerFlags, parse_file, resolve
from oz_agent_worker.worker.config.schema import BACKEND_SECTIONS

ROOT = Path(__file__).parents[4]
REQUIRED = {"command": "{dispatch_command: go}"}


def test_each_backend_has_a_section_of_the_config_file_and_each_section_a_backend() -> None:
    assert list(BACKENDS) == list(BACKEND_SECTIONS)


def test_the_command_line_offers_each_backend() -> None:
    option = next(parameter for parameter in root.params if parameter.name == "backend")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(BACKENDS)


@pytest.mark.parametrize("name", list(BACKENDS))
def test_each_backend_is_made_or_refused_by_name(name: str) -> None:
    file, problems = parse_file(f"backend: {{{name}: {REQUIRED.get(name, '{}')}}}", "f.yaml")
    config = resolve(WorkerFlags(worker_id="w", api_key=Secret("k")), file, problems, {})
    assert problems.found == []
    assert config.backend_name == name
    if name in implemented_backends():
        assert build_backend(config, WorkerOptions(), {}).name == name
        assert BACKENDS[name].checks is not None
    else:
        with pytest.raises(UsageError, match=f"the {name} backend is not part of this version"):
            build_backend(config, WorkerOptions(), {})


@pytest.mark.parametrize("name", implemented_backends())
def test_each_backend_that_can_run_has_a_contract_test_and_a_page(name: str) -> None:
    assert (ROOT / "tests/integration/worker/backends" / f"test_{name}_contract.py").is_file()
    assert (ROOT / "docs" / f"{name}.md").is_file()
