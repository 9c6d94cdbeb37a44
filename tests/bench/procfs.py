"""What Linux says of a process: memory and CPU time (proc(5))."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "cpu_seconds", "memory", "parse_cpu", "parse_memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MiB: at the moment, and the most that it ever was."""

    resident: float
    peak: float


def memory(pid: int) -> Memory:
    """Read the memory of a process.

    Raises:
        OSError: there is no such process.
    """
    return parse_memory(Path(f"/proc/{pid}/status").read_text())


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process, all its threads, user and system.

    Raises:
        OSError: there is no such process.
    """
    return parse_cpu(Path(f"/proc/{pid}/stat").read_text(), os.sysconf("SC_CLK_TCK"))


def parse_memory(status: str) -> Memory:
    """Read ``/proc/PID/status``, whose kB are KiB."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Memory(_kib(fields["VmRSS"]) / 1024, _kib(fields["VmHWM"]) / 1024)


def parse_cpu(stat: str, ticks: int) -> float:
    """Read fields 14 and 15, utime and stime, of ``/proc/PID/stat``; ``ticks`` are those of a second."""
    # Field 2 is the program's name in parentheses, and may hold blanks and parentheses itself.
    after_name = stat.rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / ticks


def _kib(field: str) -> int:
    return int(field.split()[0])
