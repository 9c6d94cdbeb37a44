"""Figures of the worker against their budgets: ``python -m tests.bench``.

The worker is a process of its own, on the API tier, with a control plane that this
process plays and a node that a third process plays. It measures and does not judge: a
figure that is short of its budget is printed as such, and only a broken run fails.
"""
