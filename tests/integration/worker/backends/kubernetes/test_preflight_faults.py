"""The preflight against an API server that is old, and one that misbehaves."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import Preflight, PreflightSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeRunSettings
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .apiserver import COMPLETE, ApiServer, Handler, breaks, forbidden, hangs, says
from .worker import QUICK, running_backend

SETTINGS = dataclasses.replace(
    QUICK,
    preflight=PreflightSettings(
        SETTINGS, preflight=PreflightSettings(refusal_patience=HANG_TIMEOUT, probe=ProbeRunSettings())
