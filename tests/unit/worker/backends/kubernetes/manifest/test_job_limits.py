"""What the Job controller makes of the failure policy, by its own rules played here."""

from collections.abc import Mapping
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.manifest.job_limits import job_limits
from oz_agent_worker.worker.config.schema import KubernetesConfig


def action(policy: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """The action for a failed Pod (kubernetes, pkg/controller/job/pod_failure_policy.go)."""
    for rule in policy["rules"]:
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            assert codes["operator"] == "NotIn"
            if any(code != 0 and code not in codes["values"] for code in pod.get("codes", ())):
                return str(rule["action"])
        for pattern in patterns or ():
            if (pattern["type"], pattern["status"]) in pod.get("conditions", ()):
                return str(rule["action"])
    return "Count"


TAKEN = ("PodScheduled", "True")
DISRUPTED = ("DisruptionTarget", "True")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({"conditions": [TAKEN], "codes": [1]}, "FailJob"),
        ({"conditions": [TAKEN], "codes": [0, 137]}, "FailJob"),
        ({"conditions": [TAKEN, DISRUPTED], "codes": [143]}, "Count"),
        ({"conditions": [TAKEN, DISRUPTED], "codes": [137]}, "Count"),
        ({"conditions": [TAKEN, DISRUPTED], "codes": [1]}, "Count"),
        ({"conditions": [DISRUPTED]}, "Count"),
        # The scheduler chose it for preemption and thought better of it.
        ({"conditions": [TAKEN, ("DisruptionTarget", "False")], "codes": [1]}, "FailJob"),
        # Past the Pod's own deadline, and ended well when it was stopped.
        ({"conditions": [TAKEN], "codes": [0]}, "FailJob"),
        ({"conditions": [TAKEN]}, "FailJob"),
        # Refused by the kubelet (OutOfcpu): nothing ran.
        ({}, "Count"),
    ],
    ids=[
        "exit code",
        "killed",
        "drained",
        "evicted, killed",
        "drained, and says so by another code",
        "node lost",
        "no disruption after all",
        "deadline exceeded, exit code 0",
        "no end known",
        "refused",
    ],
)
def test_a_disruption_is_counted_and_a_failure_is_final(pod: Mapping[str, Any], expected: str) -> None:
    limits = job_limits(KubernetesConfig(retry_on_disruption=2), cleanup=True)
    assert limits["backoffLimit"] == 2
    assert action(limits["podFailurePolicy"], pod) == expected


@pytest.mark.parametrize(
    ("settings", "cleanup", "limits"),
    [
        ({}, True, {"backoffLimit": 0, "ttlSecondsAfterFinished": 86400}),
        ({}, False, {"backoffLimit": 0}),
        (
            {"active_deadline_seconds": 5, "ttl_seconds_after_finished": 0},
            True,
            {"backoffLimit": 0, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 0},
        ),
    ],
)
def test_without_retries_any_failure_is_the_end(
    settings: dict[str, Any], cleanup: bool, limits: dict[str, int]
) -> None:
    assert job_limits(KubernetesConfig(**settings), cleanup=cleanup) == limits
