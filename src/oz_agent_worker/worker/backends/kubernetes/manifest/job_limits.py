"""The limits and retries of a Job, which the Job controller applies while no worker runs. Pure."""

from typing import Any

from oz_agent_worker.worker.config.schema import KubernetesConfig

__all__ = ["job_limits"]


def job_limits(config: KubernetesConfig, *, cleanup: bool) -> dict[str, Any]:
    """Return the fields of a JobSpec other than its template (batch/v1, JobSpec).

    A task runs once unless the operator allows more (``retry_on_disruption``): its effects outside
    the Pod cannot be undone. With ``cleanup`` off there is no TTL.
    """
    limits: dict[str, Any] = {"backoffLimit": config.retry_on_disruption}
    if config.retry_on_disruption:
        limits["podFailurePolicy"] = {"rules": _failure_rules()}
    if config.active_deadline_seconds is not None:
        limits["activeDeadlineSeconds"] = config.active_deadline_seconds
    if cleanup:
        limits["ttlSecondsAfterFinished"] = config.ttl_seconds_after_finished
    return limits


def _failure_rules() -> list[dict[str, Any]]:
    """Distinguish disruptions from failures (KEP-3329, PodFailurePolicy); the first match decides.

    With a policy, a Pod is replaced only when it has ended (podReplacementPolicy ``Failed``), so a
    task never runs twice at a time.
    """
    return [
        # A disruption counts towards backoffLimit. It comes first, because the containers of a
        # drained or preempted Pod are ended by signals: their exit codes are its effect.
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # A container that failed: its own exit code, the OOM killer, an init container.
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
        # A failure without an exit code: a Pod past its own deadline whose containers ended with 0
        # on SIGTERM. Every Pod that a kubelet accepted has this condition. One that it
        # refused (OutOfcpu) has none and has run nothing: it matches no rule, and is counted.
        {"action": "FailJob", "onPodConditions": [{"type": "PodScheduled", "status": "True"}]},
    ]
