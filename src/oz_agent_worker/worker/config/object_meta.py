"""Shapes of what operators add to the metadata of Jobs and Pods: labels and annotations."""

import re
from typing import Final

import yaml

from .nodes import Problems
from .shapes import Shape, label_value, mapping_of, text

__all__ = ["annotations", "labels"]

# A prefix is a DNS subdomain, a name has 63 characters at most (Kubernetes: Labels and
# Selectors, syntax and character set; annotations have the same keys).
_QUALIFIED: Final = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
# The Job controller's own labels on Pods (Kubernetes: Well-Known Labels, Annotations and Taints).
_OF_THE_JOB_CONTROLLER: Final = re.compile(r"job-name|controller-uid|batch\.kubernetes\.io/.*")


def labels() -> Shape[dict[str, str]]:
    """A mapping of label keys to label values."""
    return _keyed(mapping_of(label_value()), refused=_OF_THE_JOB_CONTROLLER)


def annotations() -> Shape[dict[str, str]]:
    """A mapping of annotation keys to any text."""
    return _keyed(mapping_of(text(empty_is_none=False)))


def _keyed(values: Shape[dict[str, str]], refused: re.Pattern[str] | None = None) -> Shape[dict[str, str]]:
    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, str] | None:
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = str(key_node.value)
            if not _QUALIFIED.fullmatch(key):
                allowed = "a name of a-z, A-Z, 0-9, -, _ and ., 63 at most, or PREFIX/NAME"
                problems.note(
                    f"{path}.{key}", key_node, f"this is no key of Kubernetes: allowed is {allowed}"
                )
            elif refused is not None and refused.fullmatch(key):
                problems.note(f"{path}.{key}", key_node, "the Job controller sets this one itself")
        return values.decode(node, path, problems)

    return Shape(values.describe, values.schema, decode)
