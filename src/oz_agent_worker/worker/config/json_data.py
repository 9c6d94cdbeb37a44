"""What the config file passes on to Kubernetes: YAML as JSON, with text where the API wants text.

Kubernetes refuses ``value: 1`` and ``nodeSelector: {gpu: true}``, because both fields are strings.
Programs in Go convert such scalars when they decode them into the API's types, so a file that has
them works there.
"""

import contextlib
import math
from typing import Any, Final

import yaml

from .nodes import Problems, entries, is_null, plain, shown, text_of

__all__ = ["TEXT_FIELDS", "json_data"]

#: The fields of a PodSpec and below it that are strings, lists of strings or maps to strings
#: (core/v1 of Kubernetes 1.35). An image volume's ``image`` has strings below it too.
TEXT_FIELDS: Final = frozenset((
    "accessModes", "action", "add", "annotations", "apiGroup", "apiVersion", "args", "audience",
    "cachingMode", "certificateChainPath", "claimName", "command", "conditionType", "containerName",
    "credentialBundlePath", "datasetName", "datasetUUID", "devicePath", "directory", "diskName", "diskURI",
    "dnsPolicy", "driver", "drop", "effect", "endpoints", "fieldPath", "fieldsType", "finalizers",
    "fsGroupChangePolicy", "fsType", "gateway", "generateName", "gmsaCredentialSpec",
    "gmsaCredentialSpecName", "group", "host", "hostIP", "hostname", "hostnameOverride", "hostnames",
    "image", "imagePullPolicy", "initiatorName", "ip", "iqn", "iscsiInterface", "key", "keyPath", "keyType",
    "keyring", "kind", "labels", "level", "localhostProfile", "manager", "matchLabelKeys", "matchLabels",
    "medium", "mismatchLabelKeys", "monitors", "mountPath", "mountPropagation", "name", "nameservers",
    "namespace", "namespaces", "nodeAffinityPolicy", "nodeName", "nodeSelector", "nodeTaintsPolicy",
    "operation", "operator", "options", "path", "pdID", "pdName", "podGroup", "podGroupReplicaKey", "pool",
    "portals", "preemptionPolicy", "prefix", "priorityClassName", "procMount", "protectionDomain",
    "protocol", "pullPolicy", "recursiveReadOnly", "reference", "registry", "repository", "request",
    "resource", "resourceClaimName", "resourceClaimTemplateName", "resourceName", "resourceVersion",
    "restartPolicy", "revision", "role", "runAsUserName", "runtimeClassName", "schedulerName", "scheme",
    "seLinuxChangePolicy", "searches", "secretFile", "secretName", "selfLink", "server", "service",
    "serviceAccount", "serviceAccountName", "shareName", "signerName", "stopSignal", "storageClassName",
    "storageMode", "storagePolicyID", "storagePolicyName", "storagePool", "subPath", "subPathExpr",
    "subdomain", "subresource", "supplementalGroupsPolicy", "system", "targetContainerName", "targetPortal",
    "targetWWNs", "tenant", "terminationMessagePath", "terminationMessagePolicy", "topologyKey", "type",
    "uid", "user", "userAnnotations", "value", "values", "volume", "volumeAttributes",
    "volumeAttributesClassName", "volumeID", "volumeMode", "volumeName", "volumeNamespace", "volumePath",
    "whenUnsatisfiable", "workingDir", "wwids",
))  # fmt: skip
#: The list whose ``values`` are numbers (core/v1, ContainerRestartRuleOnExitCodes).
_EXIT_CODES: Final = "exitCodes"
_MOST_VALUES: Final = 20_000


def json_data(node: yaml.Node, path: str, problems: Problems) -> Any:
    """A node as JSON data. What cannot be JSON is a problem, and the result is then not to be used."""
    return _Reader(problems).read(node, path, is_text=False)


class _Reader:
    """Reads one tree; aliases count each time, so that few lines of them do not become gigabytes."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._values = 0
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: str, *, is_text: bool) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES or id(node) in self._open:
            if self._values <= _MOST_VALUES:
                self._problems.note(path, node, "this contains itself, by an alias")
            elif self._values == _MOST_VALUES + 1:
                self._problems.note(path, node, f"with its aliases this has more than {_MOST_VALUES} values")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, is_text=is_text)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [
                    self.read(child, f"{path}[{index}]", is_text=is_text)
                    for index, child in enumerate(node.value)
                ]
            return self._mapping(node, path, is_text=is_text)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: str, *, is_text: bool) -> dict[str, Any]:
        of_codes = path.endswith(f".{_EXIT_CODES}")
        found = {}
        for name, key, child in entries(node, path, self._problems, may_repeat=True):
            if not isinstance(key, yaml.ScalarNode):
                self._problems.note(path, key, "a key is a list or a mapping, and allowed is a string")
            below = is_text or (name in TEXT_FIELDS and not of_codes)
            found[name] = self.read(child, f"{path}.{name}", is_text=below)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: str, *, is_text: bool) -> Any:
        if is_null(node):
            return None
        if is_text:
            return text_of(node, path, self._problems)
        value = plain(node)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            return int(value)  # as Go writes it: 1e3 is 1000
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            with contextlib.suppress(OverflowError):
                return float(value)  # as Go does
            value = math.inf
        is_json = math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int)
        if not is_json:
            self._problems.note(path, node, f"read {shown(node.value)}, which JSON does not have: quote it")
        return value
