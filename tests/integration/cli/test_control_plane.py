"""``oz-agent-worker control-plane`` as a chart or a service manager starts it."""

import json
from pathlib import Path

import pytest

from tests.integration.programs import BIN, ControlPlane, control_plane, environment, oz, program

BROUGHT = "0123456789abcdef" * 2


def test_a_key_that_the_operator_brings_counts_from_the_start(tmp_path: Path) -> None:
    env = environment(tmp_path, OZ_CONTROL_PLANE_API_KEY=f"{BROUGHT}\n")
    with program([str(BIN / "oz-agent-worker"), "control-plane", "--port", "0"], env) as running:
        line = running.wait_for("Workers connect to")
        plane = ControlPlane(
            running, line.rpartition("users to ")[2].removesuffix("/api/v1"), BROUGHT, tmp_path
        )
        assert plane.runs() == []
        assert BROUGHT not in running.text


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OZ_CONTROL_PLANE_API_KEY", "short", "at least 32 characters"),
        ("OZ_CONTROL_PLANE_WORKER_GRACE", "soon", "soon"),
        ("OZ_CONTROL_PLANE_MAX_STARTS", "0", "--max-starts"),
        ("OZ_CONTROL_PLANE_LOG_FORMAT", "xml", "xml"),
    ],
)
def test_a_wrong_setting_is_refused_with_exit_code_2(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    done = oz("control-plane", "--port", "0", env=environment(tmp_path, **{variable: value}), check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_its_log_can_be_one_json_object_a_line(tmp_path: Path) -> None:
    with control_plane(tmp_path, "--log-format", "json") as plane:
        lines = [json.loads(line) for line in plane.program.lines]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
