"""Helm for the tests; where it cannot be had they are skipped, but in CI they fail."""

import os
from pathlib import Path

import pytest

from tests.cluster.errors import ProvisionError
from tests.cluster.helm import HelmPrograms, helm_programs

from .helm_cli import Helm

__all__ = ["helm_in", "provisioned_programs"]


def provisioned_programs() -> HelmPrograms:
    """Return Helm and kubectl, or skip the test that asks."""
    try:
        return helm_programs()
    except ProvisionError as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(f"no Helm: {error}", pytrace=False)
        pytest.skip(f"no Helm: {error}")


def helm_in(home: Path, kubeconfig: Path | None = None) -> Helm:
    """Return a Helm with all its files in ``home``."""
    return Helm(provisioned_programs().helm, home, kubeconfig)
