"""What the drivers of all engines need: a service with a ledger, and processes to kill."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Self, Set, Tuple
from typing import Counter as Counts

from flowmaestro.testing import FakeFlowMaestro, Node, running_server

ROOT = Path(__file__).parents[2]
WORKFLOW = "wf_123"
SETTLE_AFTER = 8.0
"""Shorter than the default, so that a proof takes minutes. The service lists at once."""
PATIENCE = float(os.environ.get("PATIENCE", "1"))
"""All limits are multiplied by it. They only end a proof that hangs; a busy machine needs more."""


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


def prove_with_and_without(name: str, prove: Callable[[str], Dict[str, int]]) -> None:
    """Prove with a checkpoint and print the figures without one; exit if the former are bad."""
    figures = prove(name)
    os.environ["BARE"] = "1"
    prove("the same without a checkpoint")
    proved(figures)


def proved(*proofs: Dict[str, int]) -> None:
    """Print the sum of all proofs; exit with an error unless each task was started once."""
    for figures in proofs:
        if not figures["tasks"] == figures["executions"] == figures["tasks started"]:
            sys.exit(f"not each task was started once: {figures}")
    tasks, kills = (sum(figures[what] for figures in proofs) for what in ("tasks", "kills"))
    print(f"{tasks} tasks, {kills} kills: each task was started once", flush=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Connect to the port and return True. Raises `OSError` if nothing listens there."""
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


class Server:
    """A server of an engine on a port of its own, with its state on the disk."""

    def __init__(self, port: int, *command: str) -> None:
        self.port, self._command = port, command
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(lambda: listens(self.port))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()


def start_redis(folder: str) -> Server:
    """Start a Redis of our own, which has each command on the disk at once."""
    port = free_port()
    where = ("--port", str(port), "--save", "", "--dir", folder)
    return Server(port, "redis-server", *where, "--appendonly", "yes", "--appendfsync", "always")


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis of our own; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(folder)
        try:
            yield f"redis://127.0.0.1:{server.port}/0"
        finally:
            server.kill()


def until(holds: Callable[[], bool], *, timeout: float = 60.0) -> None:
    """Wait until `holds` returns True; it may raise `OSError` before."""
    timeout *= PATIENCE
    give_up_at = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"waited for {timeout:.0f} s")  # Its traceback says for what.
        time.sleep(0.1)


def children_of(pid: int) -> List[int]:
    """Return the ids of the children of a process; none if it has ended."""
    children: List[int] = []
    for thread in Path("/proc", str(pid), "task").glob("*"):
        with contextlib.suppress(OSError):
            children += map(int, (thread / "children").read_text().split())
    return children


def tree_of(pid: int) -> Set[int]:
    """Return the ids of a process and of all that it and its children have started."""
    return {pid}.union(*map(tree_of, children_of(pid)))


def pids_where(processes: List[Process], suits: Callable[[bytes], bool]) -> List[int]:
    """Return the ids of those that the processes have started whose command line suits."""
    found = []
    for pid in sorted({pid for each in processes for pid in tree_of(each.pid)}):
        with contextlib.suppress(OSError):
            if suits(Path("/proc", str(pid), "cmdline").read_bytes()):
                found.append(pid)
    return found


class Process:
    """A process of an engine, in a session of its own, that can be killed with its children.

    What it prints is shown only with the argument `logs`; on standard output it may go to a file.
    """

    def __init__(
        self,
        *command: str,
        program: str = sys.executable,
        folder: Any = ROOT,
        output: Any = os.devnull,
    ) -> None:
        self._command = [program, *command]
        self._folder = folder
        self._output = output
        self.start()

    def start(self) -> None:
        silent = "logs" not in sys.argv
        with open(self._output, "a") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                start_new_session=True,
                stdout=output if silent or self._output != os.devnull else None,
                stderr=subprocess.DEVNULL if silent else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def children(self) -> List[int]:
        return children_of(self._process.pid)

    def kill(self) -> None:
        """Kill it with all that it has started.

        Children of RQ and of Spark are in groups of their own.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGSTOP)  # It must not start another child meanwhile.
        pids = tree_of(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self, *, timeout: float = 180.0) -> None:
        """Wait until it has ended; exit if it has failed."""
        if self._process.wait(timeout * PATIENCE):
            sys.exit(f"failed: {self._command}")


KILLS = 8
WHOLE = 3
"""So many of the kills are of a whole worker: a machine that dies."""


class Workers:
    """The workers of an engine, with a supervisor that starts them again.

    They end with the `with` block.
    """

    def __init__(self, workers: List[Process]) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def running(self) -> List[int]:
        """Return the ids of processes that run tasks: the children of the workers."""
        return [pid for each in self.workers for pid in each.children]

    def kill(self, kind: str, rng: Any) -> None:
        """Kill one of the processes that run tasks, or a `"worker"` that runs a task.

        A worker is killed with all its processes, and started again.
        """
        until(lambda: bool(self.running()), timeout=300)
        running = self.running()
        if kind == "worker":
            busy = [each for each in self.workers if not tree_of(each.pid).isdisjoint(running)]
            victim = rng.choice(busy or self.workers)
            victim.kill()
            victim.start()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(running), signal.SIGKILL)

    def restart_ended(self) -> None:
        for each in self.workers:
            if each.has_ended:
                each.start()

    def supervised(self) -> bool:
        """Start workers again that have ended. Return True, for a condition to wait for."""
        self.restart_ended()
        return True

    def end(self) -> None:
        for each in self.workers:
            each.kill()


def kinds_of_kills(rng: Any) -> List[str]:
    """Return what the kills of a proof hit, in random order."""
    kinds = ["worker"] * WHOLE + ["process"] * (KILLS - WHOLE)
    rng.shuffle(kinds)
    return kinds


def kill_at_random(
    workers: Workers,
    fake: FakeFlowMaestro,
    seed: int,
    *,
    pause: Tuple[float, float] = (0.5, 4.0),
    middle: Callable[[], object] = bool,
) -> None:
    """Kill, at random moments, as soon as tasks run. In the middle the service is away for 4 s.

    Then `middle` is called, which may kill the server of the engine.
    """
    rng = random.Random(seed)
    until(lambda: workers.supervised() and len(fake.executions) > 2, timeout=600)
    for number, kind in enumerate(kinds_of_kills(rng)):
        time.sleep(rng.uniform(*pause))
        if number == KILLS // 2:
            away(fake, 4.0)
            middle()
        workers.restart_ended()
        workers.kill(kind, rng)
