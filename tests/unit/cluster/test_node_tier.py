"""What a machine must have for a node, and the message where it is missing."""

import os
import sys
import tempfile

import pytest

from tests.cluster.errors import ProvisionError
from tests.cluster.node_tier import NodeTier, obstacle, remaining_resources


def test_a_user_other_than_root_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    assert obstacle() == "a kubelet needs root"
    with pytest.raises(ProvisionError, match="a kubelet needs root"):
        NodeTier().start()


def test_another_system_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert obstacle() == "a kubelet needs Linux"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_temporary_folder_that_the_node_would_hide_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/var/lib/tmp")
    assert "set TMPDIR" in (obstacle() or "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_had_no_node_has_left_nothing() -> None:
    assert remaining_resources(os.getpid()) == []
