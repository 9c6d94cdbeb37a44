"""Wrong values are refused before anything is rendered, with a message that names them."""

from typing import Any

import pytest

from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm, HelmError

NEEDED = {"worker.workerId": "w", "image.tag": "v1"}

WRONG: tuple[tuple[str, Any, str], ...] = (
    # What has another type.
    ("worker", "w", "/worker': got string, want null or object"),
    ("worker.workerId", ["w"], "/worker/workerId': got array, want null or boolean or number or string"),
    ("worker.cleanup", "maybe", "/worker/cleanup': 'maybe' does not match pattern"),
    ("worker.cleanup", 1, "/worker/cleanup': got number, want null or boolean or string"),
    ("worker.maxConcurrentTasks", "four", "/worker/maxConcurrentTasks': 'four' does not match pattern"),
    ("worker.maxConcurrentTasks", 1.5, "/worker/maxConcurrentTasks': got number, want null or integer"),
    ("metrics.port", "09464", "/metrics/port': '09464' does not match pattern"),
    ("worker.extraArgs", "--env=A", "/worker/extraArgs': got string, want null or array"),
    ("worker.extraArgs", [{}], "/worker/extraArgs/0': got object, want null or boolean or number or string"),
    ("worker.podLabels", {"a": ["b"]}, "/worker/podLabels/a': got array, want null or boolean"),
    ("worker.nodeSelector", ["a"], "/worker/nodeSelector': got array, want null or object"),
    ("kubernetesBackend.unschedulableTimeout", 30, "/unschedulableTimeout': got number, want null or string"),
    ("worker.livenessProbe", "none", "/worker/livenessProbe': got string, want null or object"),
    ("worker.livenessProbe", True, "/worker/livenessProbe': got boolean, want null or object"),
    (
        "kubernetesBackend.podTemplate",
        "spec",
        "/kubernetesBackend/podTemplate': got string, want null or object",
    ),
    # What is out of range.
    ("worker.logLevel", "trace", "/worker/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"),
    ("worker.logFormat", "xml", "/worker/logFormat': value must be one of 'text', 'json'"),
    ("image.pullPolicy", "Sometimes", "/image/pullPolicy': value must be one of"),
    ("kubernetesBackend.imagePullPolicy", "Once", "/kubernetesBackend/imagePullPolicy': value must be one"),
    ("metrics.exporter", "statsd", "/metrics/exporter': value must be one of"),
    ("metrics.port", 70000, "/metrics/port': maximum: got 70,000, want 65,535"),
    ("metrics.port", "70000", "metrics.port is 70000: allowed is 1 to 65535"),
    ("metrics.port", "0", "metrics.port is 0: allowed is 1 to 65535"),
    ("worker.terminationGracePeriodSeconds", "-1", "PeriodSeconds is -1: allowed is 0 or more"),
    ("networkPolicy.apiServer.ports", ["0"], "networkPolicy.apiServer.ports[0] is 0: allowed is 1 to 65535"),
    ("kubernetesBackend.activeDeadlineSeconds", -1, "/kubernetesBackend/activeDeadlineSeconds': minimum"),
    ("podDisruptionBudget.maxUnavailable", 2, "/podDisruptionBudget/maxUnavailable': maximum"),
    # What is written wrongly.
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
    ("image.pullSecrets", [{"secret": "x"}], "/image/pullSecrets/0': missing property 'name'"),
    ("worker.extraEnv", [{"name": None, "value": "x"}], "/worker/extraEnv/0/name': got null, want"),
)

WRONG_FOR_CONTROL_PLANE: tuple[tuple[str, Any, str], ...] = (
    ("controlPlane.agentImage", "a b", "/controlPlane/agentImage': 'a b' does not match pattern"),
    ("controlPlane.publicURL", "plane.example.com", "/controlPlane/publicURL': 'plane.example.com' does not"),
    ("controlPlane.workerGrace", "0", "/controlPlane/workerGrace': '0' does not match pattern"),
    ("controlPlane.maxStarts", 0, "/controlPlane/maxStarts': minimum"),
    ("controlPlane.logFormat", "xml", "/controlPlane/logFormat': value must be one of 'text', 'json'"),
    ("networkPolicy.database.ports", [], "/networkPolicy/database/ports': minItems"),
    ("controlPlane.port", 0, "/controlPlane/port': minimum"),
    ("persistence.size", "ten", "/persistence/size': 'ten' does not match pattern"),
    ("persistence.accessModes", [], "/persistence/accessModes': minItems"),
    ("persistence.accessModes", ["ReadOnlyMany"], "/persistence/accessModes/0': value must be one of"),
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
        ({**NEEDED, "worker.workerId": "warp-1"}, 'worker.workerId is "warp-1": IDs that begin with `warp`'),
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
