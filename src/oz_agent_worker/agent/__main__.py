"""``python -m oz_agent_worker.agent``: the same as the ``oz-agent`` script."""

import sys

from .main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
