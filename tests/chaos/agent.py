"""The played agent of the direct backend: ``python -m tests.chaos.agent LEDGER ARGUMENT…``.

It does what the orders among its arguments say (``tests.chaos.plan``), and records it.
"""

import os
import sys
import time
from pathlib import Path

from .plan import End, parse_orders
from .records import Recorder

__all__ = ["main"]


def main() -> int:
    """Follow the orders; return the exit code."""
    ledger, *arguments = sys.argv[1:]
    plan = parse_orders(" ".join(arguments))
    if plan is None:
        return 2
    # The mark is another for each start, so that two starts of an execution count as two executions.
    run_id, execution_id = (os.environ.get(name, "") for name in ("OZ_RUN_ID", "OZ_EXECUTION_MARK"))
    recorder = Recorder(Path(ledger))
    recorder.write("start", run_id, execution_id, str(os.getpid()))
    print(f"task {plan.number} runs", flush=True)
    if plan.end is End.NEVER:
        time.sleep(24 * 3600)
    time.sleep(plan.seconds)
    recorder.write("end", run_id, execution_id, str(os.getpid()))
    return plan.exit_code


if __name__ == "__main__":
    sys.exit(main())
