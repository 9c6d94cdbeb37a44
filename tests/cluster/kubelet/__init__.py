"""Tests play the kubelet: a node whose Pods do what a test's script says, over the real API."""

from tests.cluster.kubelet import behaviours
from tests.cluster.kubelet.execute import execute
from tests.cluster.kubelet.kubelet import Kubelet
from tests.cluster.kubelet.podrun import Behaviour, PodRun, Script

__all__ = ["Behaviour", "Kubelet", "PodRun", "Script", "behaviours", "execute"]
