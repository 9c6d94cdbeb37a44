"""Shapes of what Kubernetes defines: names, labels, annotations, quantities, resources.

Sources: Kubernetes, Labels and Selectors (syntax and character set), Well-Known Labels,
Annotations and Taints; core/v1 ResourceRequirements; apimachinery, resource.Quantity.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from .nodes import Problems, entries, shown, value_at
from .shapes import Shape, integer, mapping_of, raw_mapping, string, text, unknown_key

__all__ = [
    "annotations",
    "deadline",
    "dns_label",
    "labels",
    "pod_template",
    "quantity",
    "resource_problems",
    "resources",
]

_QUANTITY: Final = re.compile(r"\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
# A prefix is a DNS subdomain, a name has 63 characters at most; annotations have
# the same keys.
_QUALIFIED: Final = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
# Labels that the Job controller sets on Pods.
_OF_THE_JOB_CONTROLLER: Final = re.compile(r"job-name|controller-uid|batch\.kubernetes\.io/.*")
_AMOUNTS: Final = ("requests", "limits")


def quantity() -> Shape[str]:
    """A Kubernetes quantity, such as ``10Gi``."""
    schema = {"pattern": f"^({_QUANTITY.pattern})?$"}
    return string("a Kubernetes quantity such as 10Gi or 500M", schema, _is_quantity)


def _is_quantity(value: Any) -> bool:
    """Whether a value is the text of a quantity (apimachinery, resource.Quantity)."""
    return isinstance(value, str) and _QUANTITY.fullmatch(value) is not None


def dns_label() -> Shape[str]:
    """A namespace's name (RFC 1123 label)."""
    return string(
        "a name of a-z, 0-9 and -, 63 characters at most",
        {"pattern": f"^({_DNS_LABEL.pattern})?$"},
        lambda s: bool(_DNS_LABEL.fullmatch(s)),
    )


def label_value() -> Shape[str]:
    """A label's value (Kubernetes: Labels and Selectors, syntax and character set)."""
    return string(
        "a label value of a-z, A-Z, 0-9, -, _ and ., 63 at most",
        {"pattern": f"^{_LABEL_VALUE.pattern}$"},
        lambda s: bool(_LABEL_VALUE.fullmatch(s)),
        empty_is_none=False,
    )


def deadline() -> Shape[int]:
    """A Job's ``activeDeadlineSeconds``: whole seconds. 0 is taken with a warning."""
    whole = integer(minimum=0)

    def decode(node: yaml.Node, path: str, problems: Problems) -> int | None:
        value = whole.decode(node, path, problems)
        if value == 0:
            problems.warn(path, node, "0 ends every Job at once: leave this key out for no limit")
        return value

    return Shape(whole.describe, whole.schema, decode)


def labels() -> Shape[dict[str, str]]:
    """A mapping of label keys to label values."""
    return _keyed(mapping_of(label_value()), refused=_OF_THE_JOB_CONTROLLER)


def annotations() -> Shape[dict[str, str]]:
    """A mapping of annotation keys to any text."""
    return _keyed(mapping_of(text(empty_is_none=False)))


def _keyed(values: Shape[dict[str, str]], refused: re.Pattern[str] | None = None) -> Shape[dict[str, str]]:
    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, str] | None:
        # What is wrong with the mapping itself is noted where its values are decoded.
        for key, key_node, _ in entries(node, path, Problems(problems.source)):
            if not _QUALIFIED.fullmatch(key):
                allowed = "a name of a-z, A-Z, 0-9, -, _ and ., 63 at most, or PREFIX/NAME"
                problems.note(
                    f"{path}.{key}", key_node, f"this is no key of Kubernetes: allowed is {allowed}"
                )
            elif refused is not None and refused.fullmatch(key):
                problems.note(f"{path}.{key}", key_node, "the Job controller sets this one itself")
        return values.decode(node, path, problems)

    return Shape(values.describe, values.schema, decode)


def pod_template() -> Shape[Mapping[str, Any]]:
    """A PodSpec. The API server checks it, but for ``restartPolicy``, which is the worker's own."""
    raw = raw_mapping()

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = raw.decode(node, path, problems)
        if value is not None and value.get("restartPolicy") not in (None, "", "Never"):
            what = "a task's Pod has Never, whatever is set here; retry_on_disruption repeats tasks"
            problems.warn(f"{path}.restartPolicy", value_at(node, "restartPolicy"), what)
        return value

    return Shape(raw.describe, raw.schema, decode)


def resources() -> Shape[Mapping[str, Any]]:
    """``requests`` and ``limits``, each a mapping of resource names to quantities, and ``claims``."""
    raw = raw_mapping()

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = raw.decode(node, path, problems)
        wrong = list(resource_problems(value or {}))
        for below, what in wrong:
            at: yaml.Node | None = node
            for key in below:
                at = value_at(at, key)
            problems.note(".".join((path, *below)), at, what)
        return None if wrong else value

    return Shape(raw.describe, raw.schema, decode)


def resource_problems(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The problems, each with its path below ``value``. Amounts are not compared with each other."""
    for kind, amounts in value.items():
        if kind not in _AMOUNTS:
            if kind != "claims":
                yield (kind,), unknown_key(kind, (*_AMOUNTS, "claims"))
        elif isinstance(amounts, Mapping):
            for name, amount in amounts.items():
                number = isinstance(amount, int | float) and not isinstance(amount, bool)
                if not _is_quantity(str(amount) if number else amount):
                    allowed = "allowed is a Kubernetes quantity such as 2, 500m or 4Gi"
                    yield (kind, name), f"read {shown(amount)}, {allowed}"
        elif amounts is not None:
            yield (kind,), f"read {shown(amounts)}, allowed is a mapping of resource names to quantities"
