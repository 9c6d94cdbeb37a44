"""A Job that no cluster stores, and a container that no node starts, are refused beforehand (K12)."""

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import TaskTooLargeError
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry
from tests.unit.worker.backends.kubernetes.samples import task_spec

KIB = 1024


def plan(config: KubernetesConfig | None = None, **spec: object) -> None:
    plan_job(task_spec(**spec), config or KubernetesConfig(), worker_id="w", cleanup=True, unique="1")


def variables(count: int, size: int = 120 * KIB) -> dict[str, Secret]:
    return {f"V{n}": Secret("x" * size) for n in range(count)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mcp", "x" * 200_000), r"^the value of --mcp has 200000 bytes, and Linux passes 131071 at most"),
        (("agent", "x" * 131_072), r"^argument 2 has 131072 bytes"),
    ],
)
def test_an_argument_that_is_too_long(arguments: tuple[str, ...], said: str) -> None:
    """K12: named by its flag, and not by its value."""
    with pytest.raises(TaskTooLargeError, match=said) as caught:
        plan(arguments=arguments)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("in_secret", [False, True])
def test_a_variable_that_is_too_long(in_secret: bool) -> None:
    """K12: a Secret does not help, since the container's program gets it all the same."""
    config = KubernetesConfig(task_env_secret=in_secret)
    with pytest.raises(TaskTooLargeError, match="the variable KEY has 200004 bytes") as caught:
        plan(config, environment={"KEY": Secret("x" * 200_000)})
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("where", ["environment", "template"])
def test_a_variable_of_the_operator_s_that_is_too_long(where: str) -> None:
    """K12: of the shorthand and of the template."""
    entry = {"name": "KEY", "value": "x" * 200_000}
    config = (
        KubernetesConfig(environment=(EnvEntry("KEY", entry["value"]),))
        if where == "environment"
        else KubernetesConfig(pod_template={"containers": [{"name": "task", "env": [entry]}]})
    )
    with pytest.raises(TaskTooLargeError, match="the variable KEY has 200004 bytes"):
        plan(config)


def test_arguments_and_variables_that_are_too_large_together() -> None:
    """K12: a quarter of the stack, 2 MiB."""
    arguments = tuple("x" * (120 * KIB) for _ in range(10))
    secret = KubernetesConfig(task_env_secret=True)
    with pytest.raises(TaskTooLargeError, match=r"bytes together, and Linux passes 2097152 at most"):
        plan(secret, arguments=arguments, environment=variables(8))


def test_a_job_that_is_too_large() -> None:
    """K12: with its largest parts, and what takes variables out of it."""
    with pytest.raises(TaskTooLargeError) as caught:
        plan(environment=variables(12) | {"LARGE": Secret("x" * (125 * KIB))})
    said = str(caught.value)
    assert "bytes, and etcd stores 1572864 at most" in said
    assert "the largest parts are the variable LARGE with 128000 bytes" in said
    assert "task_env_secret" in said
    assert "xxx" not in said
    plan(environment=variables(12))


def test_a_setup_command_doubles_the_variables() -> None:
    """K12: its container has them too, where no Secret holds them."""
    plan(environment=variables(8))
    with pytest.raises(TaskTooLargeError, match="etcd stores"):
        plan(KubernetesConfig(setup_command="true"), environment=variables(8))
    plan(KubernetesConfig(setup_command="true", task_env_secret=True), environment=variables(8))


def test_variables_that_no_secret_holds() -> None:
    """K12: a Secret holds 1 MiB."""
    with pytest.raises(TaskTooLargeError, match="a Kubernetes Secret holds 1048576 at most"):
        plan(KubernetesConfig(task_env_secret=True), environment=variables(9))
