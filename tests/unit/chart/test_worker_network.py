"""What the worker's chart lets in and out: metrics, the NetworkPolicy, and the Pod of `helm test`."""

from typing import Any

import pytest

from tests.chart.helm_cli import WORKER, Helm
from tests.chart.objects import container, environment, kinds, pick

Objects = list[dict[str, Any]]


def rendered(helm: Helm, case: str = "minimal", **options: Any) -> Objects:
    """A case's objects; further values as ``values``."""
    return helm.template(WORKER, WORKER / f"ci/{case}-values.yaml", **options)


def test_prometheus_scrapes_the_port_named_metrics(helm: Helm) -> None:
    objects = rendered(helm, values={"metrics.enabled": True, "metrics.port": 9999})
    found = environment(container(objects))
    assert found["OTEL_METRICS_EXPORTER"] == "prometheus"
    assert found["OTEL_EXPORTER_PROMETHEUS_HOST"] == "0.0.0.0"
    assert found["OTEL_EXPORTER_PROMETHEUS_PORT"] == "9999"
    assert container(objects)["ports"] == [{"name": "metrics", "containerPort": 9999, "protocol": "TCP"}]
    service = pick(objects, "Service")
    assert service["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9999",
        "prometheus.io/path": "/metrics",
    }
    assert service["spec"]["selector"] == pick(objects, "Deployment")["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("exporter", ["otlp", "console", "none"])
def test_any_other_exporter_opens_no_port(helm: Helm, exporter: str) -> None:
    values = {"metrics.enabled": True, "metrics.exporter": exporter, "metrics.podMonitor.create": True}
    objects = rendered(helm, values=values)
    assert not {"Service", "PodMonitor"} & set(kinds(objects))
    assert "ports" not in container(objects)
    found = environment(container(objects))
    assert found["OTEL_METRICS_EXPORTER"] == exporter
    assert "OTEL_EXPORTER_PROMETHEUS_HOST" not in found


def test_a_pod_monitor_selects_the_worker(helm: Helm) -> None:
    monitor = pick(rendered(helm, "public"), "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["podMetricsEndpoints"] == [
        {"port": "metrics", "path": "/metrics", "interval": "15s", "scrapeTimeout": "5s"}
    ]
    selector = pick(rendered(helm, "public"), "Deployment")["spec"]["selector"]
    assert monitor["spec"]["selector"] == selector


# ----------------------------------------------------------------------- the test and the policy


def test_no_object_selects_the_pod_of_the_test_but_the_network_policy(helm: Helm) -> None:
    objects = rendered(helm, "everything")
    labels = pick(objects, "Pod")["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        selector = pick(objects, kind)["spec"]["selector"]["matchLabels"]
        assert not selector.items() <= labels.items(), kind
    (expression,) = pick(objects, "NetworkPolicy")["spec"]["podSelector"]["matchExpressions"]
    assert labels[expression["key"]] in expression["values"]


def test_helm_test_asks_the_doctor_as_the_worker_would(helm: Helm) -> None:
    objects = rendered(helm, "public")
    pod, deployment = pick(objects, "Pod"), pick(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (doctor,) = pod["spec"]["containers"]
    (worker,) = deployment["containers"]
    assert doctor["args"] == ["doctor", *worker["args"][:3]]
    for key in ("image", "env", "volumeMounts", "securityContext"):
        assert doctor[key] == worker[key]
    for key in ("serviceAccountName", "volumes", "securityContext", "imagePullSecrets"):
        assert pod["spec"][key] == deployment[key]


def test_policies_and_webhooks_know_the_test_by_what_they_know_the_worker_by(helm: Helm) -> None:
    given = {"team": "agents", "app.kubernetes.io/name": "other", "helm.sh/chart": "other"}
    notes = {"sidecar.istio.io/inject": "false", "helm.sh/hook": "pre-install"}
    objects = rendered(helm, values={"worker.podLabels": given, "worker.podAnnotations": notes})
    metadata, plain = (pick(found, "Pod")["metadata"] for found in (objects, rendered(helm)))
    assert metadata["labels"] == {"team": "agents", **plain["labels"]}
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false", **plain["annotations"]}


@pytest.mark.parametrize(
    ("socket", "root", "ports"),
    [
        ("wss://oz.warp.dev/ws", "https://app.warp.dev", [443]),
        ("ws://a:8080/ws", "http://a:8080", [8080]),
        ("ws://[2001:db8::1]/ws", "https://[2001:db8::1]:8443", [80, 8443]),
        ("", "", [443]),
    ],
)
def test_the_policy_opens_the_ports_of_the_control_plane(
    helm: Helm, socket: str, root: str, ports: list[int]
) -> None:
    urls = {"warp.webSocketURL": socket, "warp.serverRootURL": root}
    policy = pick(rendered(helm, values={"networkPolicy.create": True, **urls}), "NetworkPolicy")
    plane, server, dns = policy["spec"]["egress"]
    assert plane == {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    assert server == {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]}
    assert dns["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    ]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["ingress"] is None


def test_the_policy_names_peers_where_they_are_given(helm: Helm) -> None:
    spec = pick(rendered(helm, "everything"), "NetworkPolicy")["spec"]
    assert [rule.get("to") for rule in spec["egress"]][:2] == [
        [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        [{"ipBlock": {"cidr": "198.51.100.1/32"}}],
    ]
    assert [rule.get("ports", [{}])[0].get("port") for rule in spec["ingress"]] == ["metrics", "health", None]
    assert spec["ingress"][1]["from"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]


def test_whom_the_metrics_are_kept_from_does_not_get_them_at_the_port_of_health(helm: Helm) -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
    values = {
        "networkPolicy.create": True,
        "networkPolicy.metrics.from": peers,
        "metrics.enabled": True,
        "worker.health.enabled": True,
    }
    spec = pick(rendered(helm, values=values), "NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": "metrics"}], "from": peers}]
