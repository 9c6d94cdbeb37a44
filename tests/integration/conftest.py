import pytest

from tests.cluster.api_tier import ApiTier

from .cli.inspecting import Command, command_with


@pytest.fixture
def command(api_tier: ApiTier, namespace: str) -> Command:
    """Run a command with nothing but a kubeconfig, whose context has the test's namespace."""
    return command_with(api_tier.kubeconfig("worker", namespace))
