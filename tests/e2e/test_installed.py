"""The installed product: images built here, both charts, real Helm, one real node; then what happens to it.

One installation serves all tests, in their order; the last ones take it away.
"""

import re
from typing import Any

import pytest

from tests.chart.helmcli import HelmError
from tests.cluster.errors import ApiError
from tests.cluster.rest import wait_for
from tests.e2e.installed import PLANE_RELEASE, WORKER_RELEASE, Installation

pytestmark = [pytest.mark.node, pytest.mark.docker, pytest.mark.timeout(600)]

HEALTH_PORT = 8081
METRICS_PORT = 9464


def test_a_prompt_becomes_output_and_a_result(installation: Installation) -> None:
    prompt = 'echo "hello from $OZ_WORKER_BACKEND in $PWD"; echo "user $(id -u)"; ls /agent'
    with installation.plane() as plane:
        done = plane.oz("run", prompt, "--harness", "shell", "--follow", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *output, last = done.stdout.splitlines()
    assert re.fullmatch(r"run \S+ SUCCEEDED", last)
    assert "hello from kubernetes in /workspace" in output
    assert "entrypoint.sh" in output
    wait_for("the Job's deletion", lambda: installation.jobs() == [])
