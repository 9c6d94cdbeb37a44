"""What Linux says of a process: memory and CPU time (proc(5))."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cpu", "Memory", "cpu", "memory", "parse_cpu", "parse_memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MiB: at the moment, and the most that it ever was."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU time that a process has used, in its own code and in the kernel."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        """What was used since."""
        return Cpu(self.user - earlier.user, self.system - earlier.system)


def memory(pid: int) -> Memory:
    """Read the memory of a process.

    Raises:
        OSError: there is no such process.
    """
    return parse_memory(Path(f"/proc/{pid}/status").read_text())


def cpu(pid: int) -> Cpu:
    """Read the CPU time of a process, all its threads together.

    Raises:
        OSError: there is no such process.
    """
    return parse_cpu(Path(f"/proc/{pid}/stat").read_text(), os.sysconf("SC_CLK_TCK"))


def parse_memory(status: str) -> Memory:
    """Read ``/proc/PID/status``, whose kB are KiB."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Memory(_kib(fields["VmRSS"]) / 1024, _kib(fields["VmHWM"]) / 1024)


def parse_cpu(stat: str, ticks: int) -> Cpu:
    """Read fields 14 and 15, utime and stime, of ``/proc/PID/stat``; ``ticks`` are those of a second."""
    # Field 2 is the program's name in parentheses, and may hold blanks and parentheses itself.
    after_name = stat.rpartition(")")[2].split()
    return Cpu(int(after_name[11]) / ticks, int(after_name[12]) / ticks)


def _kib(field: str) -> int:
    return int(field.split()[0])
