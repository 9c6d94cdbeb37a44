import pytest
import yaml

from oz_agent_worker.worker.config.dialect import Loader
from oz_agent_worker.worker.config.kubernetes_shapes import resources
from oz_agent_worker.worker.config.nodes import Problems

QUANTITY = "allowed is a Kubernetes quantity such as 2, 500m or 4Gi"


def read(text: str) -> tuple[object, list[str]]:
    problems = Problems("f.yaml")
    node = yaml.compose(text, Loader=Loader)
    assert node is not None
    return resources().decode(node, "resources", problems), problems.found


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{requests: {cpu: 2, memory: 4Gi}}",
        "{requests: {cpu: 0.5}, limits: {nvidia.com/gpu: '1', memory: 1000000000}}",
        "{limits: null}",
        "{claims: [{name: gpu}]}",
    ],
)
def test_what_the_api_takes_is_kept_as_it_is(text: str) -> None:
    assert read(text) == (yaml.safe_load(text), [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "f.yaml:1: resources: read a list, allowed is a mapping"),
        ("\nrequestz: {}", "f.yaml:2: resources.requestz: unknown key `requestz`; did you mean `requests`?"),
        (
            "\nlimits: [1]",
            "f.yaml:2: resources.limits: read a list, allowed is a mapping of resource names to quantities",
        ),
        (
            "requests:\n  cpu: zz",
            f"f.yaml:2: resources.requests.cpu: read 'zz', {QUANTITY}",
        ),
        (
            "requests:\n  cpu: true",
            f"f.yaml:2: resources.requests.cpu: read true, {QUANTITY}",
        ),
        (
            "limits:\n  memory:",
            f"f.yaml:2: resources.limits.memory: read nothing, {QUANTITY}",
        ),
    ],
)
def test_refused_and_ignored_values_are_reported(text: str, problem: str) -> None:
    assert read(text) == (None, [problem])
