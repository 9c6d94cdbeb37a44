"""Prometheus for the tests; where it cannot be had they are skipped, but in CI they fail."""

import os

import pytest

from tests.cluster.errors import ProvisionError
from tests.cluster.packages import monitoring_programs

from .prometheus import Programs

__all__ = ["provisioned_prometheus"]


def provisioned_prometheus() -> Programs:
    """Return Prometheus and promtool, or skip the test that asks."""
    try:
        found = monitoring_programs()
    except ProvisionError as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(f"no Prometheus: {error}", pytrace=False)
        pytest.skip(f"no Prometheus: {error}")
    return Programs(prometheus=found["prometheus"], promtool=found["promtool"])
