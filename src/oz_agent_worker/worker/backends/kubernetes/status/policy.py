"""How patient the worker is with what may heal by itself, and what it is patient with."""

import math
from dataclasses import dataclass, replace

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.config.schema import KubernetesConfig

__all__ = ["ObservationPolicy", "PodProblem", "observation_policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationPolicy:
    """How long each state may last before it fails its task, in seconds.

    ``unschedulable_timeout``: without a node or without room in a quota, 0 without end;
    ``scale_up_timeout``: without a node while an autoscaler adds one; ``pull_grace``: an
    image that cannot be pulled, a volume that cannot be mounted, a container that cannot be
    created; ``refusal_grace``: Pods that the cluster does not admit; ``stuck_timeout``: a
    start without progress or a word why; ``lost_timeout``: a node that does not answer.

    The events of a Pod are asked for when its problem has lasted ``ask_after`` seconds, and
    once more at the end of a grace: their answer is waited for ``ask_patience`` longer.
    """

    unschedulable_timeout: float = 30.0
    scale_up_timeout: float = 600.0
    pull_grace: float = 60.0
    refusal_grace: float = 10.0
    stuck_timeout: float = 600.0
    lost_timeout: float = 300.0
    ask_after: float = 10.0
    ask_patience: float = 30.0


def observation_policy(config: KubernetesConfig, base: ObservationPolicy) -> ObservationPolicy:
    """The policy of a configuration; what has no key of its own is as in ``base``."""
    return replace(
        base,
        unschedulable_timeout=config.unschedulable_timeout,
        scale_up_timeout=config.scale_up_timeout,
        pull_grace=config.pull_grace,
    )


@dataclass(frozen=True, slots=True)
class PodProblem:
    """A state that becomes ``outcome`` when it has lasted ``grace`` seconds.

    ``key`` names the state across observations; what the cluster says of it changes.
    ``about`` is the UID of the object whose events tell more of it, empty where none do;
    they are worth reading after ``ask_after`` seconds.
    """

    key: str
    grace: float
    outcome: Outcome
    about: str = ""
    ask_after: float = math.inf
