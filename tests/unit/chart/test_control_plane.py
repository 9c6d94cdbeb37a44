"""What the control plane's chart renders."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from oz_agent_worker.cli.control_plane import control_plane
from oz_agent_worker.cli.runs import runs
from tests.chart.helm_cli import CONTROL_PLANE, NAMESPACE, WORKER, Helm
from tests.chart.objects import container, environment, kinds, named, pick

Objects = list[dict[str, Any]]

BASE = ["Deployment", "PersistentVolumeClaim", "Pod", "Service", "ServiceAccount"]
URL = "http://rel-oz-control-plane.agents.svc:8080"


def rendered(helm: Helm, case: str = "minimal", **options: Any) -> Objects:
    """A case's objects; further values as ``values``."""
    return helm.template(CONTROL_PLANE, CONTROL_PLANE / f"ci/{case}-values.yaml", **options)


def pod_spec(objects: Objects) -> dict[str, Any]:
    """The PodSpec of the Deployment."""
    found = pick(objects, "Deployment")["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def test_the_defaults_make_these_objects_and_no_more(helm: Helm) -> None:
    assert kinds(rendered(helm)) == BASE


def test_there_is_one_process_on_one_volume(helm: Helm) -> None:
    objects = rendered(helm)
    spec = pick(objects, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    claim = pick(objects, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Gi"}},
    }
    volume = named(pod_spec(objects)["volumes"], "data")
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    mount = named(container(objects)["volumeMounts"], "data")["mountPath"]
    url = environment(container(objects))["OZ_CONTROL_PLANE_DATABASE"]
    assert Path(url.removeprefix("sqlite:///")).parent == Path(mount)


def test_the_command_takes_its_arguments(helm: Helm) -> None:
    arguments = container(rendered(helm))["args"]
    assert arguments == [
        "control-plane",
        "--host=0.0.0.0",
        "--port=8080",
        f"--public-url={URL}",
        "--worker-grace=10m",
        "--max-starts=5",
        "--log-level=info",
        "--agent-image=ghcr.io/oz-agent-worker/oz-agent:v1.2.3",
    ]
    for case in ("minimal", "everything", "postgresql"):
        given = container(rendered(helm, case))["args"][1:]
        answer = CliRunner().invoke(control_plane, [*given, "--help"])
        assert answer.exit_code == 0, answer.output


def test_it_logs_as_json_where_that_is_asked_for(helm: Helm) -> None:
    arguments = container(rendered(helm, "everything"))["args"]
    assert "--log-format=json" in arguments
    assert "--max-starts=3" in arguments


def test_the_test_lists_runs_through_the_service(helm: Helm) -> None:
    pod = pick(rendered(helm), "Pod")
    (asking,) = pod["spec"]["containers"]
    assert asking["args"] == ["runs", "--limit=1", f"--server={URL}"]
    assert CliRunner().invoke(runs, [*asking["args"][1:], "--help"]).exit_code == 0
    selector = pick(rendered(helm), "Service")["spec"]["selector"]
    assert not selector.items() <= pod["metadata"]["labels"].items()
    key = {"secretKeyRef": {"name": "oz-agent-worker", "key": "WARP_API_KEY"}}
    assert environment(asking) == {"WARP_API_KEY": key}
    assert environment(container(rendered(helm)))["OZ_CONTROL_PLANE_API_KEY"] == key


def test_the_pod_has_no_token_and_no_variables_of_services(helm: Helm) -> None:
    objects = rendered(helm)
    assert pick(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    for spec in (pod_spec(objects), pick(objects, "Pod")["spec"]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


def test_a_digest_is_that_of_its_own_image_alone(helm: Helm) -> None:
    digest = f"sha256:{'0' * 64}"
    found = container(rendered(helm, values={"image.tag": f"v1.2.3@{digest}"}))
    assert found["image"] == f"ghcr.io/oz-agent-worker/oz-agent-worker:v1.2.3@{digest}"
    assert "--agent-image=ghcr.io/oz-agent-worker/oz-agent:v1.2.3" in found["args"]


def test_a_database_that_is_away_restarts_nothing(helm: Helm) -> None:
    found = container(rendered(helm))
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/healthz")):
        assert found[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}
    assert (
        not {"startupProbe", "livenessProbe", "readinessProbe"}
        & container(rendered(helm, "postgresql")).keys()
    )


def test_postgresql_needs_no_volume(helm: Helm) -> None:
    objects = rendered(helm, "postgresql")
    assert "PersistentVolumeClaim" not in kinds(objects)
    found = environment(container(objects))
    assert found["OZ_CONTROL_PLANE_DATABASE"] == {"secretKeyRef": {"name": "plane-database", "key": "url"}}
    assert found["OZ_CONTROL_PLANE_API_KEY"] == {"secretKeyRef": {"name": "plane-key", "key": "key"}}
    assert [volume["name"] for volume in pod_spec(objects)["volumes"]] == ["tmp"]


@pytest.mark.parametrize(
    ("case", "claim"),
    [("no-volume", None), ("own-claim", "runs"), ("minimal", "rel-oz-control-plane-data")],
)
def test_where_the_runs_are_kept(helm: Helm, case: str, claim: str | None) -> None:
    objects = rendered(helm, case)
    volume = named(pod_spec(objects)["volumes"], "data")
    assert volume.get("persistentVolumeClaim", {}).get("claimName") == claim
    assert ("PersistentVolumeClaim" in kinds(objects)) is (case == "minimal")


def test_a_claim_may_go_with_the_release(helm: Helm) -> None:
    assert "annotations" not in pick(rendered(helm, "no-keep"), "PersistentVolumeClaim")["metadata"]


def test_an_ingress_leads_to_the_service(helm: Helm) -> None:
    spec = pick(rendered(helm, "everything"), "Ingress")["spec"]
    backend = {"service": {"name": "rel-plane", "port": {"name": "http"}}}
    assert spec == {
        "ingressClassName": "nginx",
        "tls": [{"secretName": "plane-tls", "hosts": ["plane.example.com"]}],
        "rules": [
            {
                "host": "plane.example.com",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ],
    }


@pytest.mark.parametrize(
    ("values", "restarts"),
    [
        ({"ingress.host": "other.example.com"}, False),
        ({"service.annotations": {"a": "b"}}, False),
        ({"persistence.size": "30Gi"}, False),
        ({"apiKeySecret.value": "f" * 32}, True),
        ({"controlPlane.taskImage": "other"}, True),
    ],
)
def test_a_pod_is_restarted_only_for_what_it_reads(
    helm: Helm, values: dict[str, Any], restarts: bool
) -> None:
    before, after = (
        pick(rendered(helm, "everything", values=v), "Deployment")["spec"]["template"] for v in ({}, values)
    )
    assert (before != after) is restarts


# -------------------------------------------------------------------------------- the policy

DNS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
ITS_PORT = [{"protocol": "TCP", "port": "http"}]


def policy(helm: Helm, case: str) -> dict[str, Any]:
    """The NetworkPolicy's spec."""
    spec = pick(rendered(helm, case), "NetworkPolicy")["spec"]
    assert isinstance(spec, dict)
    return spec


def test_the_policy_selects_the_control_plane_and_its_test_and_nothing_else(helm: Helm) -> None:
    objects = rendered(helm, "everything")
    selector = policy(helm, "everything")["podSelector"]
    (expression,) = selector["matchExpressions"]
    plane = pick(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    asking = pick(objects, "Pod")["metadata"]["labels"]
    for labels in (plane, asking):
        assert selector["matchLabels"].items() <= labels.items()
    assert expression["values"] == [plane[expression["key"]], asking[expression["key"]]]
    assert policy(helm, "everything")["policyTypes"] == ["Ingress", "Egress"]


def test_on_sqlite_it_reaches_dns_alone(helm: Helm) -> None:
    asking, dns, extra = policy(helm, "everything")["egress"]
    kube_system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    assert dns == {"ports": DNS, "to": [kube_system]}
    assert extra == {"ports": [{"port": 3128, "protocol": "TCP"}]}
    # The Pod of `helm test` reaches what the Service leads to.
    service = pick(rendered(helm, "everything"), "Service")["spec"]
    assert asking == {
        "ports": [{"protocol": "TCP", "port": 8080}],
        "to": [{"podSelector": {"matchLabels": service["selector"]}}],
    }


def test_on_postgresql_it_reaches_the_database_too(helm: Helm) -> None:
    _, dns, database = policy(helm, "policy")["egress"]
    assert dns == {"ports": DNS}
    assert database == {
        "ports": [{"protocol": "TCP", "port": 5432}, {"protocol": "TCP", "port": 6432}],
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    }
    assert policy(helm, "postgresql")["egress"][2] == {"ports": [{"protocol": "TCP", "port": 5432}]}


def test_anybody_reaches_it_unless_peers_are_given(helm: Helm) -> None:
    assert policy(helm, "postgresql")["ingress"] == [{"ports": ITS_PORT}]
    clients, extra = policy(helm, "everything")["ingress"]
    given, asking = clients["from"]
    assert clients["ports"] == ITS_PORT
    assert given == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "agents"}}}
    labels = pick(rendered(helm, "everything"), "Pod")["metadata"]["labels"]
    assert asking["podSelector"]["matchLabels"].items() <= labels.items()
    assert extra == {"from": [{"podSelector": {"matchLabels": {"app": "debugger"}}}]}


def test_both_charts_read_one_secret_by_default(helm: Helm) -> None:
    worker = helm.template(WORKER, WORKER / "ci/minimal-values.yaml")
    key = environment(container(worker))["WARP_API_KEY"]
    assert key == environment(container(rendered(helm)))["OZ_CONTROL_PLANE_API_KEY"]


def test_the_notes_have_the_command_that_installs_a_worker(helm: Helm) -> None:
    printed = helm.run(
        "install", "rel", CONTROL_PLANE, "--namespace", NAMESPACE, "--dry-run=client", "--set=image.tag=v1"
    ).partition("\nNOTES:\n")[2]
    command = printed[printed.index("helm install") :].partition("\n\n")[0]
    given = [word for word in command.replace("\\\n", " ").split() if "=" in word]
    assert given == [
        "worker.workerId=my-worker",
        "image.tag=v1",
        "warp.webSocketURL=ws://rel-oz-control-plane.agents.svc:8080/api/v1/selfhosted/worker/ws",
        f"warp.serverRootURL={URL}",
    ]
    sets = [f"--set={pair}" for pair in given]
    worker = helm.template(WORKER, options=tuple(sets))
    assert f"--server-root-url={URL}" in container(worker)["args"]
