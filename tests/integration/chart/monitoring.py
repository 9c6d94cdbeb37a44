"""Resources of the Prometheus Operator, as far as the chart uses them (its API reference)."""

from typing import Any, Final

__all__ = ["GROUP", "POD_MONITORS", "PROMETHEUS_RULES"]

GROUP: Final = "monitoring.coreos.com"

_TEXT: Final = {"type": "string"}
_LABELS: Final = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Final = {
    **_TEXT,
    "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}


def _definition(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A CustomResourceDefinition in which only the named members exist."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _list_of(required: list[str], **members: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "required": required, "properties": members}}


POD_MONITORS: Final = _definition(
    "PodMonitor",
    {
        "type": "object",
        "required": ["podMetricsEndpoints", "selector"],
        "properties": {
            "selector": {"type": "object", "properties": {"matchLabels": _LABELS}},
            "podMetricsEndpoints": _list_of(
                [], port=_TEXT, path=_TEXT, interval=_DURATION, scrapeTimeout=_DURATION
            ),
        },
    },
)

PROMETHEUS_RULES: Final = _definition(
    "PrometheusRule",
    {
        "type": "object",
        "properties": {
            "groups": _list_of(
                ["name"],
                name=_TEXT,
                rules=_list_of(
                    ["expr"],
                    alert=_TEXT,
                    expr={"x-kubernetes-int-or-string": True},
                    labels=_LABELS,
                    annotations=_LABELS,
                    **{"for": _DURATION},
                ),
            )
        },
    },
)
