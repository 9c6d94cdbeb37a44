"""Tests play the kubelet: a node whose Pods do what a test's script says, over the real API."""

from . import behaviours
from .execute import execute
from .kubelet import Kubelet
from .pod_run import Behaviour, PodRun, Script

__all__ = ["Behaviour", "Kubelet", "PodRun", "Script", "behaviours", "execute"]
