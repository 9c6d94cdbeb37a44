"""Every Job of the golden files, and its Secret, before a real API server that is strict about fields."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.errors import ApiError
from tests.unit.worker.backends.kubernetes.manifest.test_job import CASES, built, planned
from tests.unit.worker.backends.kubernetes.samples import AGENT, task_spec

pytestmark = pytest.mark.cluster

DOCUMENT = Path(__file__).parents[5] / "docs" / "kubernetes.md"

STRICT = "dryRun=All&fieldValidation=Strict"


@pytest.mark.parametrize("name", CASES)
def test_the_api_server_takes_the_job_as_it_is(api_tier: ApiTier, namespace: str, name: str) -> None:
    plan = planned(name)
    job = plan.job
    job["metadata"]["namespace"] = namespace
    answer: Any = api_tier.client("worker").create(
        f"/apis/batch/v1/namespaces/{namespace}/jobs?{STRICT}", job
    )
    assert _missing(job["spec"], answer["spec"]) == []
    if plan.secret_name is not None:
        manifest = plan.environment_secret(plan.secret_name, "u")
        api_tier.client().create(f"/api/v1/namespaces/{namespace}/secrets?{STRICT}", manifest)


def test_the_api_server_would_have_refused_a_field_that_it_does_not_know(
    api_tier: ApiTier, namespace: str
) -> None:
    job = built("minimal")
    job["metadata"]["namespace"] = namespace
    job["spec"]["template"]["spec"]["nodeSelectr"] = {}
    with pytest.raises(ApiError, match="nodeSelectr"):
        api_tier.client("worker").create(f"/apis/batch/v1/namespaces/{namespace}/jobs?{STRICT}", job)


LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.mark.parametrize(
    ("level", "documented", "admitted"),
    [("baseline", False, True), ("restricted", False, False), ("restricted", True, True)],
    ids=["baseline", "restricted", "restricted, as the documentation says"],
)
def test_what_pod_security_admits(
    api_tier: ApiTier, namespace: str, level: str, documented: bool, admitted: bool
) -> None:
    admin = api_tier.client()
    found = admin.get(f"/api/v1/namespaces/{namespace}")
    found["metadata"]["labels"][LEVEL] = level
    admin.request("PUT", f"/api/v1/namespaces/{namespace}", found)
    keys = _documented_keys() if documented else {}
    config = KubernetesConfig(setup_command="make deps", **keys)
    job = plan_job(task_spec(sidecars=(AGENT,)), config, worker_id="w", cleanup=True).job
    pod = {"metadata": {"generateName": "pod-"}, "spec": job["spec"]["template"]["spec"]}
    path = f"/api/v1/namespaces/{namespace}/pods?{STRICT}"
    if admitted:
        admin.create(path, pod)
    else:
        with pytest.raises(ApiError, match="violates PodSecurity"):
            admin.create(path, pod)


def _documented_keys() -> dict[str, Any]:
    """Read what docs/kubernetes.md says to set under the level ``restricted``."""
    blocks = re.findall(r"```yaml\n(use_image_volumes.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (keys,) = map(yaml.safe_load, blocks)
    return dict(keys)


def _missing(sent: Any, kept: Any, path: str = "spec") -> list[str]:
    """Find what was sent and is not in the answer: dropped, as a field behind a feature gate is."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        # An empty text is left out of an answer, which means the same.
        pairs = [(name, value, kept.get(name, "")) for name, value in sent.items()]
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(sent, kept, strict=True))]
    else:
        # Of quantities, 1 and "1" are one.
        return [] if str(sent) == str(kept) else [f"{path}: {sent!r} became {kept!r}"]
    return [found for name, a, b in pairs for found in _missing(a, b, f"{path}.{name}")]
