"""How long a Pod's problem may last before it fails its task."""

from dataclasses import dataclass, replace

from oz_agent_worker.worker.config.schema import KubernetesConfig

__all__ = ["ObservationPolicy", "observation_policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationPolicy:
    """How long each problem may last before it fails its task, in seconds.

    - ``unschedulable_timeout``: no node, or no room in a quota; 0 means no limit.
    - ``scale_up_timeout``: no node while an autoscaler adds one.
    - ``pull_grace``: an image that cannot be pulled, a volume that cannot be mounted, a container
      that cannot be created.
    - ``refusal_grace``: Pods that the cluster does not admit.
    - ``stuck_timeout``: no progress, and nothing that says why.
    - ``lost_timeout``: a node that does not answer.
    - ``teardown_grace``: the other containers of the Pod go on after the container ``task`` has ended; the
      Pod's own grace period where that is longer.
    - ``announced_grace``: the Job has announced its end, no Pod of it runs, and it does not end.
    - ``controller_timeout``: the Pod has ended, and the Job controller takes no note.
    - ``surplus_grace``: a second Pod has not started and is not removed while the first one goes on.

    The events of a Pod are read when its problem has lasted ``ask_after`` seconds, and once more when
    its grace is over; that last read may take ``ask_patience`` seconds.
    """

    unschedulable_timeout: float = 30.0
    scale_up_timeout: float = 600.0
    pull_grace: float = 60.0
    refusal_grace: float = 10.0
    stuck_timeout: float = 600.0
    lost_timeout: float = 300.0
    teardown_grace: float = 30.0
    announced_grace: float = 30.0
    controller_timeout: float = 120.0
    surplus_grace: float = 30.0
    ask_after: float = 10.0
    ask_patience: float = 30.0


def observation_policy(config: KubernetesConfig, base: ObservationPolicy) -> ObservationPolicy:
    """Return the policy of a configuration; what has no config key is as in ``base``."""
    return replace(
        base,
        unschedulable_timeout=config.unschedulable_timeout,
        scale_up_timeout=config.scale_up_timeout,
        pull_grace=config.pull_grace,
    )
