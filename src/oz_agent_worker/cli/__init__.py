"""The command line: ``oz-agent-worker`` alone runs the worker; the rest are subcommands."""

from .main import main

__all__ = ["main"]
