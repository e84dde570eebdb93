"""Measure a line of imports in an interpreter of its own, beyond an empty program."""

import os
import subprocess
import sys
import time

from protocol import ARGUMENTS, URL, serve


def taken(line):
    """User and system time, and time, of an interpreter that runs `line`; each the least of two."""
    cpu, wall = [], []
    for _ in range(2):
        started = time.perf_counter_ns()
        child = subprocess.Popen([sys.executable, "-c", line])
        _, status, usage = os.wait4(child.pid, 0)
        wall.append((time.perf_counter_ns() - started) / 1000)
        assert status == 0, line
        cpu.append((usage.ru_utime + usage.ru_stime) * 1e6)
    return min(cpu), min(wall)


def run(count):
    cpu, wall = [], []
    line = ARGUMENTS[0].replace("{URL}", URL)
    for _ in range(count):
        (line_cpu, line_wall), (empty_cpu, empty_wall) = taken(line), taken("pass")
        cpu.append(line_cpu - empty_cpu)
        wall.append(line_wall - empty_wall)
    return {"cpu_us": min(cpu), "wall_us": min(wall)}


serve(run=run)
