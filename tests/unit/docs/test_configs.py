"""The YAML and JSON in the documents is valid for what it shows."""

import json
from pathlib import Path

import pytest
import yaml

from oz_agent_worker.protocol.frames import decode_control_plane_frame, decode_worker_frame
from oz_agent_worker.worker.config.load import parse_file
from scripts.docs.parts import DOCS, ROOT
from tests.chart.helm_cli import Helm

from .documents import DOCUMENTS, Block, blocks
from .test_commands import helm  # noqa: F401  a fixture

ALL = [block for document in DOCUMENTS for block in blocks(document, "yaml")]
CONFIGS = [block for block in ALL if block.content.startswith("# worker.yaml\n")]
VALUES = [block for block in ALL if block.content.startswith("# values of ")]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    assert list(yaml.safe_load_all(block.content))


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_a_config_is_one_that_the_worker_takes(block: Block) -> None:
    config, problems = parse_file(block.content, str(block))
    assert (problems.found, problems.warnings) == ([], [])
    assert config.worker_id == "my-worker"


def test_the_documents_have_configs_and_values() -> None:
    assert {block.document.name for block in CONFIGS} >= {"README.md", "configuration.md", "kubernetes.md"}
    assert {block.document.name for block in VALUES} >= {"install.md", "security.md"}
    _, problems = parse_file("worker_idd: x", "x")
    assert problems.found


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_values_are_ones_that_the_chart_takes(helm: Helm, block: Block, tmp_path: Path) -> None:  # noqa: F811
    chart = ROOT / "charts" / block.content.partition("\n")[0].removeprefix("# values of ")
    minimal = chart / "ci/minimal-values.yaml"
    given = tmp_path / "values.yaml"
    given.write_text(block.content)
    assert helm.template(chart, minimal, given) != helm.template(chart, minimal)


@pytest.mark.parametrize("block", list(blocks(DOCS / "protocol.md", "json")), ids=str)
def test_a_frame_is_one(block: Block) -> None:
    frame = json.loads(block.content)
    from_worker = frame["type"] not in ("task_assignment", "task_cancellation", "ack")
    decoded = (decode_worker_frame if from_worker else decode_control_plane_frame)(block.content)
    assert set(frame["data"]) <= set(type(decoded).__struct_fields__)
