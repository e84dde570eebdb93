"""The protocol of a worker: a line of JSON in, a line of JSON out.

    {"task": "call", "count": 400, "options": {}}   ->   {"cpu_us": 412.3, "wall_us": 431.0, ...}

The times are those of one operation. A task is a function `(count, **options)`; what it returns
replaces or adds to the measurements. The first argument of a worker is the server's URL. The
script runs in the environment of a peer, so that it imports nothing of the project's.
"""

import gc
import json
import resource
import sys
import time

URL = sys.argv[1]
ARGUMENTS = sys.argv[2:]
KEY = "fm_live_benchmark"
HEADERS = {"Authorization": f"Bearer {KEY}", "X-API-Key": KEY, "Accept": "application/json"}
INPUTS = {"name": "John", "email": "john@example.com"}
RUNS_MS = (330, 580, 710, 960)
"""The milliseconds of the executions that show the overshoot, one after the other."""


class Measurement:
    """The time and the memory that the block under `with` takes."""

    def __enter__(self):
        gc.collect()
        self.wall, self.cpu = time.perf_counter_ns(), time.process_time_ns()
        return self

    def __exit__(self, *exc):
        self.cpu = time.process_time_ns() - self.cpu
        self.wall = time.perf_counter_ns() - self.wall

    def of_one(self, count):
        """Return the times of one operation, when `count` of them were done."""
        return {"cpu_us": self.cpu / count / 1000, "wall_us": self.wall / count / 1000}

    def less(self, other):
        """Subtract another measurement, which is not a part of this one."""
        self.cpu -= other.cpu
        self.wall -= other.wall
        return self


class Holding(Measurement):
    """The same, and how much more memory the process has at the end, garbage collected.

    What the block has needed only for a while is not in it, where the allocator gives it back.
    """

    def __enter__(self):
        gc.collect()
        self.held = resident_kb()
        return super().__enter__()

    def __exit__(self, *exc):
        super().__exit__()
        gc.collect()
        self.held = resident_kb() - self.held

    def of_one(self, count):
        return {**super().of_one(count), "held_kb": self.held / count}


def answer(measured, count, more):
    print(json.dumps({**measured.of_one(count), "peak_kb": peak_kb(), **(more or {})}), flush=True)


def peak_kb():
    """Return the peak memory of this process, in KB (Linux) or bytes (macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_kb():
    """Return the memory of this process in KB: now, or elsewhere than on Linux the peak."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1024
    except FileNotFoundError:
        return peak_kb()


def serve(**tasks):
    """Do what the lines of standard input say."""
    for line in sys.stdin:
        order = json.loads(line)
        with Measurement() as measured:
            more = tasks[order["task"]](order["count"], **order["options"])
        answer(measured, order["count"], more)


async def serve_awaiting(**tasks):
    """Do the same for coroutine functions; between orders, the event loop stands still."""
    for line in sys.stdin:
        order = json.loads(line)
        with Measurement() as measured:
            more = await tasks[order["task"]](order["count"], **order["options"])
        answer(measured, order["count"], more)


def late_ms(outputs):
    """Return the milliseconds since an execution ended, by the machine's clock in its outputs."""
    return (time.monotonic() - outputs["ended"]) * 1000
