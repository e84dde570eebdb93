"""What the drivers of all engines need: a service with a ledger, and processes to kill."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List
from typing import Counter as Counts

from flowmaestro.testing import FakeFlowMaestro, Node, running_server

ROOT = Path(__file__).parents[2]
WORKFLOW = "wf_123"
SETTLE_AFTER = 8.0
"""Shorter than the default, so that a proof takes minutes. The service lists at once."""


@contextlib.contextmanager
def service(seconds: float) -> Iterator[FakeFlowMaestro]:
    """Serve a workflow that takes so many seconds; clients find it through the environment."""
    fake = FakeFlowMaestro()
    fake.workflow(WORKFLOW, nodes=[Node("work", seconds=seconds)], outputs=dict)
    with running_server(fake) as url:
        os.environ["FLOWMAESTRO_BASE_URL"] = url
        os.environ["FLOWMAESTRO_API_KEY"] = fake.api_key
        os.environ["PYTHONPATH"] = str(ROOT)
        yield fake


def away(fake: FakeFlowMaestro, seconds: float) -> None:
    """Answer nothing but 503 for so many seconds, as a service that is being replaced."""
    fault = fake.fail_next(times=1_000_000, status=503)
    time.sleep(seconds)
    fake.disarm(fault)


def ledger(fake: FakeFlowMaestro) -> Counts[str]:
    """Return how many executions each task has started."""
    return Counter(str(execution.inputs["task"]) for execution in fake.executions)


def report(name: str, fake: FakeFlowMaestro, tasks: int, kills: int) -> Dict[str, int]:
    """Print and return the figures of one proof."""
    started = ledger(fake)
    twice = sum(count > 1 for count in started.values())
    figures = {
        "tasks": tasks,
        "kills": kills,
        "executions": sum(started.values()),
        "tasks started": len(started),
        "started twice or more": twice,
    }
    print(f"{name}: " + ", ".join(f"{what} {count}" for what, count in figures.items()), flush=True)
    return figures


def proved(figures: Dict[str, int]) -> None:
    """Exit with an error unless each task was started once."""
    if not figures["tasks"] == figures["executions"] == figures["tasks started"]:
        sys.exit(f"not each task was started once: {figures}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def redis_server(*, durable: bool = False) -> Iterator[str]:
    """Run a Redis of our own; gives its URL. If `durable`, each command is on the disk at once."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        if durable:
            command += ["--appendonly", "yes", "--appendfsync", "always"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


def until(holds: Callable[[], bool], *, timeout: float = 60.0) -> None:
    """Wait until `holds` returns True; it may raise `OSError` before."""
    give_up_at = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        if time.monotonic() > give_up_at:
            sys.exit("waited too long")
        time.sleep(0.1)


def children_of(pid: int) -> List[int]:
    """Return the ids of the children of a process; none if it has ended."""
    children: List[int] = []
    for thread in Path("/proc", str(pid), "task").glob("*"):
        with contextlib.suppress(OSError):
            children += map(int, (thread / "children").read_text().split())
    return children


class Process:
    """A process of an engine, in a session of its own, that can be killed with its children.

    What it prints is shown only with the argument `logs`.
    """

    def __init__(self, *command: str, folder: Any = ROOT) -> None:
        self._command = [sys.executable, *command]
        self._folder = folder
        self.start()

    def start(self) -> None:
        output = None if "logs" in sys.argv else subprocess.DEVNULL
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            start_new_session=True,
            stdout=output,
            stderr=output,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def children(self) -> List[int]:
        return children_of(self._process.pid)

    def kill_child(self, number: Any) -> bool:
        """Kill the child that `number` chooses; return whether there was one."""
        children = self.children
        if not children:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[number % len(children)], signal.SIGKILL)
        return True

    def kill(self) -> None:
        """Kill it with all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self, *, timeout: float = 180.0) -> None:
        """Wait until it has ended; exit if it has failed."""
        if self._process.wait(timeout):
            sys.exit(f"failed: {self._command}")


def kill_once_each(
    fake: FakeFlowMaestro, tasks: List[str], start: Callable[[str, int], Process], rng: Any
) -> int:
    """Run each task in a process that is killed once it has started its execution; repeat it.

    `start` gets the task and the number of the attempt. Returns the number of kills.
    """
    kills = 0
    for task in tasks:
        first = start(task, 1)
        until(lambda: task in ledger(fake) or first.has_ended)  # noqa: B023 - called at once
        time.sleep(rng.choice([0.0, 0.02, 0.2]))
        kills += not first.has_ended
        first.kill()
        start(task, 2).end()
    return kills
