"""PromQL expressions that the panels share.

Only ``oz_worker_info`` has the label ``worker_id``. Every expression is joined with it, so that the
dashboard's variable ``worker_id`` selects workers and legends can name them.
"""

from typing import Final

__all__ = ["INFRASTRUCTURE", "TASKS_OWN", "chosen", "per_second", "quantile", "ratio", "summed"]

_INFO: Final = ' * on (job, instance) group_left (worker_id) oz_worker_info{worker_id=~"$worker_id"}'

#: Failures of the tasks' own, which no operator can prevent.
TASKS_OWN: Final = "container_exit|container_oom|task_timeout|task_too_large|active_deadline"
#: Selects the infrastructure's failures, and not the tasks' own. The alert rules have the same selector.
INFRASTRUCTURE: Final = f'phase!="cleanup", reason!~"{TASKS_OWN}|task_cancelled|graceful_shutdown"'


def chosen(expression: str) -> str:
    """An expression, limited to the chosen workers."""
    return f"{expression}{_INFO}"


def summed(expression: str, *labels: str) -> str:
    """The sum over the chosen workers, by labels; ``worker_id`` may be one of them."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} ({chosen(expression)})"


def per_second(counter: str, *labels: str) -> str:
    """The rate of a counter of the chosen workers, per second."""
    return summed(f"rate({counter}[$__rate_interval])", *labels)


def ratio(part: str, whole: str) -> str:
    """One sum divided by another."""
    return f"{part} / {whole}"


def quantile(q: float, histogram: str, *labels: str) -> str:
    """A quantile of a histogram of the chosen workers; ``histogram`` may end in a selector."""
    name, brace, selector = histogram.partition("{")
    buckets = f"{name}_bucket{brace}{selector}"
    return f"histogram_quantile({q}, {per_second(buckets, 'le', *labels)})"
