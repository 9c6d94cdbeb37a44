"""The start-up preflight as operators meet it: a real API server, its admission and RBAC; a played node."""

import asyncio
import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from oz_agent_worker.errors import ExitCode, PreflightError
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import PreflightSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeRunSettings
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.apitier import ApiTier
from tests.cluster.kubelet import Kubelet, Script, behaviours
from tests.conftest import KubeletFactory
from tests.integration.worker.backends.harness import leave_alone
from tests.timeouts import HANG_TIMEOUT

from .operators import allow, enforce_pod_security, jobs_in, limit, set_quota
from .worker import QUICK

pytestmark = pytest.mark.cluster

SETTINGS = dataclasses.replace(
    QUICK,
    preflight=PreflightSettings(
        patience=HANG_TIMEOUT,
        refusal_patience=0.5,
        probe=ProbeRunSettings(admission=HANG_TIMEOUT, whole=HANG_TIMEOUT),
