"""A Helm without a cluster."""

import pytest

from tests.chart.helm_cli import Helm
from tests.chart.provisioned import helm_in


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """A Helm that renders."""
    return helm_in(tmp_path_factory.mktemp("helm"))
