"""The expressions that the panels have in common.

Only ``oz_worker_info`` has a worker's ID. Every expression is joined with it, so that the
variable ``worker_id`` picks workers and legends can name them.
"""

from typing import Final

__all__ = ["INFRASTRUCTURE", "chosen", "per_second", "quantile", "ratio", "summed"]

_INFO: Final = ' * on (job, instance) group_left (worker_id) oz_worker_info{worker_id=~"$worker_id"}'

#: What is the infrastructure's failure, and not the task's own; the alert rules say it so too.
INFRASTRUCTURE: Final = (
    'phase!="cleanup", reason!~"container_exit|container_oom|task_timeout|active_deadline|task_cancelled'
    '|graceful_shutdown"'
)


def chosen(expression: str) -> str:
    """The series of an expression that are of the chosen workers."""
    return f"{expression}{_INFO}"


def summed(expression: str, *labels: str) -> str:
    """The sum over the chosen workers, apart by labels; ``worker_id`` is one of those that can be had."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} ({chosen(expression)})"


def per_second(counter: str, *labels: str) -> str:
    """How fast a counter of the chosen workers grows."""
    return summed(f"rate({counter}[$__rate_interval])", *labels)


def ratio(part: str, whole: str) -> str:
    """A part of a whole, both of them sums."""
    return f"{part} / {whole}"


def quantile(q: float, histogram: str, *labels: str) -> str:
    """A quantile of a histogram of the chosen workers; ``histogram`` may end in a selector."""
    name, brace, selector = histogram.partition("{")
    buckets = f"{name}_bucket{brace}{selector}"
    return f"histogram_quantile({q}, {per_second(buckets, 'le', *labels)})"
