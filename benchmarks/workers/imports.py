"""What a line of imports takes, in an interpreter of its own, beyond an empty program."""

import os
import subprocess
import sys
import time

from protocol import ARGUMENTS, serve


def cpu_us(line):
    """User and system time of an interpreter that runs `line`; the least of two runs."""
    taken = []
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", line])
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0, line
        taken.append((usage.ru_utime + usage.ru_stime) * 1e6)
    return min(taken)


def run(count):
    started = time.perf_counter_ns()
    taken = [cpu_us(ARGUMENTS[0]) - cpu_us("pass") for _ in range(count)]
    wall = (time.perf_counter_ns() - started) / 1000
    return {"cpu_us": min(taken), "wall_us": wall / count / 2}


serve(run=run)
