"""On what the figures were measured: without it they say little."""

import os
import platform
from pathlib import Path
from typing import Any

from tests.cluster.provision import kubernetes_version

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, Any]:
    """Processor, memory, load (the mean of the last minute), and the versions that matter."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(Path("/proc/cpuinfo").read_text()),
        "memory_gib": round(pages / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "kubernetes": kubernetes_version(),
    }


def _processor(cpuinfo: str) -> str:
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())
