"""What a process of the product holds at a moment, from inside it."""

import asyncio
import gc
import sys
from pathlib import Path

__all__ = ["take_census"]


def take_census() -> dict[str, int]:
    """Count asyncio tasks, executions in the worker's hands, open descriptors and sockets.

    ``objects`` are the blocks of memory that Python's allocator has given out: a measure of what
    Python holds that neither caches of libraries in C nor fragmentation are a part of.
    """
    gc.collect()
    objects = sys.getallocatedblocks()
    tasks = runs = 0
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__ == "oz_agent_worker.worker.worker" and kind.__name__ == "Worker":
            runs += sum(1 for _ in thing._runs)
        elif isinstance(thing, asyncio.AbstractEventLoop) and not thing.is_closed():
            tasks += len(asyncio.all_tasks(thing))
    descriptors = list(Path("/proc/self/fd").iterdir())
    sockets = 0
    for descriptor in descriptors:
        try:
            sockets += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # the descriptor by which the folder itself was read
            continue
    return {
        "tasks": tasks,
        "runs": runs,
        "descriptors": len(descriptors),
        "sockets": sockets,
        "objects": objects,
    }
