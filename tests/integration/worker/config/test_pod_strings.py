"""The fields of a PodSpec that are strings, as the real API server's OpenAPI document has them."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml

from oz_agent_worker.worker.config.dialect import compose
from oz_agent_worker.worker.config.json_data import TEXT_FIELDS, json_data
from oz_agent_worker.worker.config.nodes import Problems
from tests.cluster.api_tier import ApiTier

pytestmark = pytest.mark.cluster

SPEC = "io.k8s.api.core.v1.PodSpec"
#: Their JSON is a number or a string, and their text is parsed.
PARSED = ("resource.Quantity", "intstr.IntOrString")


def kinds(schemas: Any, name: str = SPEC, seen: set[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each field of a schema and of those below it, with its kind."""
    seen = set() if seen is None else seen
    if name in seen:
        return
    seen.add(name)
    for field, schema in schemas[name].get("properties", {}).items():
        kind, below = kind_of(schema)
        yield field, kind
        if below is not None and not below.endswith(PARSED):
            yield from kinds(schemas, below, seen)


def kind_of(schema: Any) -> tuple[str, str | None]:
    """A field's kind, and the schema below it."""
    reference = schema.get("$ref") or next((s["$ref"] for s in schema.get("allOf", ()) if "$ref" in s), None)
    if reference is not None:
        name = reference.rpartition("/")[2]
        return ("parsed" if name.endswith(PARSED) else "object"), name
    for outer, inner in (("items", "list"), ("additionalProperties", "map")):
        if outer in schema:
            kind, below = kind_of(schema[outer])
            return f"{inner} of {kind}", below
    return schema["type"], None


def test_the_text_fields_are_those_of_the_api(api_tier: ApiTier) -> None:
    schemas = api_tier.client().get("/openapi/v3/api/v1")["components"]["schemas"]
    found = set(kinds(schemas))
    texts = {field for field, kind in found if kind in {"string", "list of string", "map of string"}}
    assert sorted(texts ^ TEXT_FIELDS) == []
    others = {(field, kind) for field, kind in found if field in TEXT_FIELDS} - {
        (field, kind) for field, kind in found if kind.endswith("string")
    }
    # exitCodes has numbers as `values`; of the two others everything below them is a string.
    assert others == {
        ("values", "list of integer"), ("image", "object"), ("options", "list of object"),
    }  # fmt: skip


TEMPLATE = """
spec:
  nodeSelector: {gpu: true, zone: 1}
  hostNetwork: false
  tolerations: [{key: gpu, operator: Equal, value: true, effect: NoExecute, tolerationSeconds: 60}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Gt, values: [8]}]}]
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 1e1
          podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {version: 1.10}}}
  securityContext: {runAsUser: 1e3, fsGroup: 0x10, sysctls: [{name: net.ipv4.tcp_syncookies, value: 1}]}
  dnsConfig: {options: [{name: ndots, value: 2}]}
  volumes:
    - {name: a, csi: {driver: d, readOnly: true, volumeAttributes: {size: 10, fast: yes}}}
    - {name: b, emptyDir: {sizeLimit: 1.5Gi}}
    - {name: c, secret: {secretName: 2024, defaultMode: 0o400}}
  containers:
    - name: task
      args: [1, 2.50, false, 0x10, 12:30, 2026-01-31, on]
      env: [{name: PORT, value: 8080}, {name: N, value: ~}, {name: T, value: 1:30}]
      ports: [{containerPort: 8080}]
      resources: {requests: {cpu: 2, memory: 1e9}}
      livenessProbe: {httpGet: {path: 1, port: 80, httpHeaders: [{name: X, value: 5}]}}
      volumeMounts: [{name: c, mountPath: /c, subPath: 2024, readOnly: true}]
      securityContext: {seLinuxOptions: {level: 1}, runAsNonRoot: false}
"""


def test_a_template_with_numbers_where_text_is_meant(api_tier: ApiTier, namespace: str) -> None:
    problems = Problems("f.yaml")
    pod = json_data(cast("yaml.Node", compose(TEMPLATE)[0]), "pod_template", problems)
    assert problems.found == []
    pod |= {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "task"}}
    pod["spec"]["containers"][0]["image"] = "i"
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    spec = api_tier.client().create(path, pod)["spec"]
    (task,) = spec["containers"]
    assert task["args"] == ["1", "2.50", "false", "0x10", "12:30", "2026-01-31", "on"]
    assert task["env"] == [{"name": "PORT", "value": "8080"}, {"name": "N"}, {"name": "T", "value": "1:30"}]
    assert spec["nodeSelector"] == {"gpu": "true", "zone": "1"}
    assert spec["volumes"][0]["csi"]["volumeAttributes"] == {"size": "10", "fast": "yes"}
    assert (spec["volumes"][2]["secret"]["defaultMode"], spec["securityContext"]["runAsUser"]) == (256, 1000)
