import os

from tests.bench import procfs
from tests.bench.procfs import Cpu, Memory, parse_cpu, parse_memory

STATUS = """\
Name:\tpython3
Umask:\t0022
VmPeak:\t  301234 kB
VmHWM:\t   51200 kB
VmRSS:\t   40960 kB
Threads:\t1
"""


def test_memory_is_in_mebibytes() -> None:
    assert parse_memory(STATUS) == Memory(resident=40.0, peak=50.0)


def test_cpu_time_is_found_behind_any_program_name() -> None:
    stat = "4242 (a) b (c) S 1 2 3 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 1 0 100 0 0"
    assert parse_cpu(stat, 100) == Cpu(user=2.5, system=0.5)


def test_cpu_time_is_a_sum_and_has_differences() -> None:
    used = Cpu(2.5, 0.5) - Cpu(1.0, 0.25)
    assert used == Cpu(1.5, 0.25)
    assert used.total == 1.75


def test_this_process_has_memory_and_has_used_time() -> None:
    found = procfs.memory(os.getpid())
    assert 1 < found.resident <= found.peak
    assert procfs.cpu(os.getpid()).total > 0
