"""The API server takes every object of every case, strictly; `restricted` admits every Pod."""

from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm_cli import CASES, CONTROL_PLANE, RELEASE, WORKER, Helm, case_id
from tests.chart.objects import pod_specs
from tests.cluster.errors import ApiError
from tests.cluster.rest import RestClient

from .paths import collection, strictly

pytestmark = pytest.mark.cluster


def rendered(helm: Helm, case: Path, namespace: str, tasks: str) -> list[dict[str, Any]]:
    """A case's objects, its tasks in a namespace that there is."""
    values: dict[str, Any] = {}
    if case == WORKER / "ci/everything-values.yaml":
        values = {"kubernetesBackend.namespace": tasks}
    return helm.template(case.parents[1], case, namespace=namespace, values=values)


@pytest.mark.usefixtures("operator_resources")
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_api_server_takes_every_object_strictly(
    helm: Helm, admin: RestClient, namespace: str, tasks: str, case: Path
) -> None:
    objects = rendered(helm, case, namespace, tasks)
    for found in objects:
        if found["kind"] == "ServiceAccount":
            admin.create(collection(found), found)
    for found in objects:
        if found["kind"] != "ServiceAccount":
            answer: Any = admin.create(strictly(collection(found)), found)
            assert answer["kind"] == found["kind"]


def test_a_dry_run_is_strict(admin: RestClient, helm: Helm, namespace: str) -> None:
    objects = helm.template(WORKER, WORKER / "ci/minimal-values.yaml", namespace=namespace)
    (deployment,) = [found for found in objects if found["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["nodeSelectr"] = {}
    with pytest.raises(ApiError, match="nodeSelectr"):
        admin.create(strictly(collection(deployment)), deployment)


HARDENED = [case for case in CASES if case.stem.removesuffix("-values") not in {"own-objects", "postgresql"}]


@pytest.mark.parametrize("case", HARDENED, ids=case_id)
def test_restricted_admits_the_pods(
    helm: Helm, admin: RestClient, restricted: str, tasks: str, case: Path
) -> None:
    # A securityContext of the operator's own counts as the chart's with what it leaves out.
    objects = rendered(helm, case, restricted, tasks)
    for found in objects:
        if found["kind"] == "ServiceAccount":
            admin.create(collection(found), found)
    specs = pod_specs(objects)
    assert len(specs) == 2  # the Deployment's, and the test's
    for number, spec in enumerate(specs):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}
        admin.create(strictly(f"/api/v1/namespaces/{restricted}/pods"), pod)


@pytest.mark.parametrize("chart", [WORKER, CONTROL_PLANE], ids=lambda chart: chart.name)
def test_restricted_refuses_a_pod_without_its_security_context(
    helm: Helm, admin: RestClient, restricted: str, chart: Path
) -> None:
    objects = helm.template(chart, chart / "ci/minimal-values.yaml", namespace=restricted)
    for found in objects:
        if found["kind"] == "ServiceAccount":
            admin.create(collection(found), found)
    spec = pod_specs(objects)[0]
    del spec["securityContext"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": RELEASE}, "spec": spec}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        admin.create(strictly(f"/api/v1/namespaces/{restricted}/pods"), pod)
