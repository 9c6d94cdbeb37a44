"""A node whose owner is killed takes its programs with it, and the next one tidies up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.node.sandbox import namespace_of, processes_in
from tests.cluster.node_tier import NodeTier, reclaim, remaining_resources
from tests.cluster.rest import wait_for

pytestmark = pytest.mark.node

# Says what its node's namespace is, and waits to be killed.
OWNER = """
from tests.cluster.node_tier import NodeTier
from tests.cluster.node.sandbox import namespace_of
with NodeTier() as tier:
    print(namespace_of(tier.sandbox.processes()[0]), flush=True)
    input()
"""


def test_nothing_is_left_of_a_killed_owner(node_tier: NodeTier) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        namespace = owner.stdout.readline().strip()
        assert list(processes_in(namespace)), "the second node runs"
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        wait_for("the end of its programs", lambda: not list(processes_in(namespace)))
        assert remaining_resources(owner.pid) != []
        reclaim()
        assert remaining_resources(owner.pid) == []
    assert node_tier.sandbox.processes(), "the first node goes on"
    assert namespace_of(node_tier.sandbox.processes()[0]) != namespace
