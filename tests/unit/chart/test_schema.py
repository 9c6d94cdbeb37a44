"""Wrong values are refused before anything is rendered, with a message that names them."""

from typing import Any

import pytest

from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm, HelmError

NEEDED = {"worker.workerId": "w", "image.tag": "v1"}

WRONG: tuple[tuple[str, Any, str], ...] = (
    # What is not known, at every depth.
    ("replicaCount", 2, "replicaCount"),
    ("worker.replicas", 2, "/worker': additional properties 'replicas' not allowed"),
    ("worker.health.prot", 1, "/worker/health': additional properties 'prot' not allowed"),
    ("image.tags", "v1", "/image': additional properties 'tags' not allowed"),
    ("warp.apiKeySecret.valueFrom", "x", "/warp/apiKeySecret': additional properties 'valueFrom'"),
    ("kubernetesBackend.activeDeadlineSecond", 1, "'activeDeadlineSecond' not allowed"),
    ("kubernetesBackend.setup_command", "x", "'setup_command' not allowed"),
    ("metrics.podMonitor.labels", {}, "/metrics/podMonitor': additional properties 'labels'"),
    ("metrics.prometheusRule.labels", {}, "/metrics/prometheusRule': additional properties 'labels'"),
    ("metrics.prometheusRule.alerts", {"OzWorkerAbsent": {"after": "1m"}}, "additional properties 'after'"),
    ("metrics.grafanaDashboard.enabled", True, "/metrics/grafanaDashboard': additional properties 'enabled'"),
    ("networkPolicy.enabled", True, "/networkPolicy': additional properties 'enabled'"),
    # What has another type.
    ("worker.workerId", 12, "/worker/workerId': got number, want string"),
    ("image.tag", 1.2, "/image/tag': got number, want string"),
    ("worker.cleanup", "yes", "/worker/cleanup': got string, want boolean"),
    ("worker.maxConcurrentTasks", "4", "/worker/maxConcurrentTasks': got string, want integer"),
    ("worker.extraArgs", "--env=A", "/worker/extraArgs': got string, want array"),
    ("worker.podLabels", {"a": True}, "/worker/podLabels/a': got boolean, want string"),
    ("worker.nodeSelector", ["a"], "/worker/nodeSelector': got array, want object"),
    ("worker.livenessProbe", "none", "/worker/livenessProbe': got string, want null or object"),
    ("kubernetesBackend.podTemplate", "spec", "/kubernetesBackend/podTemplate': got string, want object"),
    # What is out of range.
    ("worker.logLevel", "trace", "/worker/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"),
    ("worker.logFormat", "xml", "/worker/logFormat': value must be one of 'text', 'json'"),
    ("image.pullPolicy", "Sometimes", "/image/pullPolicy': value must be one of"),
    ("kubernetesBackend.imagePullPolicy", "", "/kubernetesBackend/imagePullPolicy': value must be one of"),
    ("metrics.exporter", "statsd", "/metrics/exporter': value must be one of"),
    ("metrics.port", 70000, "/metrics/port': maximum: got 70,000, want 65,535"),
    ("kubernetesBackend.activeDeadlineSeconds", 0, "/kubernetesBackend/activeDeadlineSeconds': minimum"),
    ("podDisruptionBudget.maxUnavailable", 2, "/podDisruptionBudget/maxUnavailable': maximum"),
    # What is written wrongly.
    ("worker.workerId", "two words", "/worker/workerId': 'two words' does not match pattern"),
    ("worker.idleOnComplete", "soon", "/worker/idleOnComplete': 'anyOf' failed"),
    ("kubernetesBackend.unschedulableTimeout", "30", "/kubernetesBackend/unschedulableTimeout': '30' does"),
    ("kubernetesBackend.workspaceSizeLimit", "10GB", "/kubernetesBackend/workspaceSizeLimit': '10GB' does"),
    ("kubernetesBackend.namespace", "Agents", "/kubernetesBackend/namespace': 'Agents' does not match"),
    ("kubernetesBackend.defaultImage", "a b", "/kubernetesBackend/defaultImage': 'a b' does not match"),
    (
        "kubernetesBackend.extraLabels",
        {"a": "b c"},
        "/kubernetesBackend/extraLabels/a': 'b c' does not match",
    ),
    ("kubernetesBackend.environment", [{"value": "x"}], "/environment/0': missing property 'name'"),
    ("kubernetesBackend.evidenceDir", "evidence", "/kubernetesBackend/evidenceDir': 'evidence' does not"),
    ("warp.webSocketURL", "https://a", "/warp/webSocketURL': 'https://a' does not match pattern"),
    ("warp.serverRootURL", "app.warp.dev", "/warp/serverRootURL': 'app.warp.dev' does not match"),
    ("metrics.podMonitor.interval", "often", "/metrics/podMonitor/interval': 'often' does not match"),
    (
        "metrics.prometheusRule.alerts",
        {"OzWorkerAbsent": {"for": "soon"}},
        "/metrics/prometheusRule/alerts/OzWorkerAbsent/for': 'soon' does not match",
    ),
    ("image.pullSecrets", [{"secret": "x"}], "/image/pullSecrets/0': 'anyOf' failed"),
)

WRONG_FOR_CONTROL_PLANE: tuple[tuple[str, Any, str], ...] = (
    ("replicas", 2, "replicas"),
    ("controlPlane.replicas", 2, "/controlPlane': additional properties 'replicas' not allowed"),
    ("controlPlane.agentImage", "a b", "/controlPlane/agentImage': 'a b' does not match pattern"),
    ("controlPlane.publicURL", "plane.example.com", "/controlPlane/publicURL': 'plane.example.com' does not"),
    ("controlPlane.workerGrace", "0", "/controlPlane/workerGrace': '0' does not match pattern"),
    ("controlPlane.maxStarts", 0, "/controlPlane/maxStarts': minimum"),
    ("controlPlane.logFormat", "xml", "/controlPlane/logFormat': value must be one of 'text', 'json'"),
    ("networkPolicy.enabled", True, "/networkPolicy': additional properties 'enabled' not allowed"),
    ("networkPolicy.database.ports", [], "/networkPolicy/database/ports': minItems"),
    ("controlPlane.port", 0, "/controlPlane/port': minimum"),
    ("persistence.size", "ten", "/persistence/size': 'ten' does not match pattern"),
    ("persistence.accessModes", [], "/persistence/accessModes': minItems"),
    ("persistence.accessModes", ["ReadOnlyMany"], "/persistence/accessModes/0': value must be one of"),
    ("database.url", "postgresql://", "/database': additional properties 'url' not allowed"),
    ("service.type", "None", "/service/type': value must be one of"),
)


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={v}" for p, v, _ in WRONG])
def test_a_wrong_value_is_named(helm: Helm, path: str, value: Any, message: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(WORKER, values={**NEEDED, path: value})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    WRONG_FOR_CONTROL_PLANE,
    ids=[f"{p}={v}" for p, v, _ in WRONG_FOR_CONTROL_PLANE],
)
def test_a_wrong_value_of_the_control_plane_is_named(helm: Helm, path: str, value: Any, message: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(CONTROL_PLANE, values={"image.tag": "v1", path: value})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image.tag": "v1"}, "worker.workerId is required: --set worker.workerId=NAME"),
        ({"worker.workerId": "w"}, "image.tag is required: --set image.tag=VERSION"),
        ({**NEEDED, "worker.workerId": "Warp-1"}, 'worker.workerId is "Warp-1": IDs that begin with `warp`'),
        ({**NEEDED, "warp.apiKeySecret.create": True}, "warp.apiKeySecret.value is required"),
        (
            {**NEEDED, "metrics.enabled": True, "worker.health.enabled": True, "worker.health.port": 9464},
            "worker.health.port and metrics.port are both 9464",
        ),
        (
            {
                **NEEDED,
                "metrics.enabled": True,
                "metrics.exporter": "console",
                "metrics.prometheusRule.create": True,
            },
            "metrics.prometheusRule.create needs metrics.exporter prometheus or otlp: with console no",
        ),
    ],
)
def test_rules_beyond_the_schema_are_checked_at_install(
    helm: Helm, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(WORKER, values=values)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "image.tag is required: --set image.tag=VERSION"),
        (
            {"image.tag": "v1", "apiKeySecret.create": True, "apiKeySecret.value": "short"},
            "apiKeySecret.value is required with apiKeySecret.create: an API key of 32 characters or more",
        ),
    ],
)
def test_the_control_plane_says_what_it_needs(helm: Helm, values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(CONTROL_PLANE, values=values)
    assert message in str(refused.value)
    assert "short" not in str(refused.value)


def test_helm_may_hand_globals_to_a_subchart(helm: Helm) -> None:
    assert helm.template(WORKER, values={**NEEDED, "global": {"imageRegistry": "registry.example.com"}})
