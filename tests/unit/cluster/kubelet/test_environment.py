import base64
from typing import Any

import pytest

from tests.cluster.kubelet.environment import command_line, environment, expand

POD = {
    "metadata": {"name": "p", "namespace": "n", "labels": {"a/b": "c"}},
    "status": {"podIP": "10.0.0.1"},
}

OBJECTS = {
    ("secrets", "s"): {"data": {"KEY": base64.b64encode(b"secret").decode()}},
    ("configmaps", "c"): {"data": {"KEY": "plain"}},
}


async def read(kind: str, name: str) -> dict[str, Any]:
    return OBJECTS[kind, name]


# Cases of third_party/forked/golang/expansion/expand_test.go.
@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(NONE)", "$(NONE)"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_A", "$(VAR_A"),
        ("$()", "$()"),
        ("$", "$"),
        ("$(VAR_A)$(VAR_B", "A$(VAR_B"),
    ],
)
def test_expands_references_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"VAR_A": "A", "VAR_B": "B"}) == expanded


async def test_later_variables_win_and_see_earlier_ones() -> None:
    container = {
        "envFrom": [{"secretRef": {"name": "s"}}, {"prefix": "C_", "configMapRef": {"name": "c"}}],
        "env": [
            {"name": "BOTH", "value": "$(KEY) $(C_KEY) $(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "KEY"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
            {
                "name": "NONE",
                "valueFrom": {"secretKeyRef": {"name": "s", "key": "missing", "optional": True}},
            },
        ],
    }
    assert await environment(POD, container, read) == {
        "KEY": "plain",
        "C_KEY": "plain",
        "BOTH": "secret plain $(LATER)",
        "LATER": "x",
        "IP": "10.0.0.1",
        "LABEL": "c",
    }


def test_command_comes_before_arguments() -> None:
    container = {"command": ["run", "$(A)"], "args": ["$(B)"]}
    assert command_line(container, {"A": "1", "B": "2"}) == ["run", "1", "2"]
    assert command_line({}, {}) == []
