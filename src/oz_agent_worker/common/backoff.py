"""Delays between attempts: exponential, with full jitter.

Full jitter spreads the retries of many clients best: each delay is drawn uniformly between
zero and the exponential ceiling (Marc Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015).
"""

from collections.abc import Callable, Iterator

__all__ = ["full_jitter"]


def full_jitter(first: float, cap: float, uniform: Callable[[float, float], float]) -> Iterator[float]:
    """Yield delays in seconds for ever; the ceiling doubles from ``first`` to ``cap``.

    ``uniform(a, b)`` draws a number between ``a`` and ``b``, as ``random.uniform`` does.
    """
    ceiling = first
    while True:
        yield uniform(0.0, ceiling)
        ceiling = min(cap, ceiling * 2)
