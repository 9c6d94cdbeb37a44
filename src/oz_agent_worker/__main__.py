"""``python -m oz_agent_worker`` is the same as ``oz-agent-worker``."""

from .cli import main

if __name__ == "__main__":
    main()
