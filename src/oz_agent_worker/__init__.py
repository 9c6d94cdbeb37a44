"""Runs AI coding-agent tasks on your own infrastructure.

Three programs in one package: the worker (``oz-agent-worker``), a small control
plane (``oz-agent-worker control-plane``) and the agent runtime (``oz-agent``).
"""

__version__ = "0.1.0"
