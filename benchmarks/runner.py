"""Rounds: every row does a case once, A B C, then again, B C A, and so on.

The server has one core, the workers another, where there are two. Rows are compared within a
round, so that what slows the machine for a while slows all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Generator, List, Tuple

from benchmarks.catalogue import Benchmark, Case, Row

WORKERS = Path(__file__).with_name("workers")
ROOT = Path(__file__).resolve().parents[1]
AGAIN = " (again)"
WARM_UP = 0.1

Interpreters = Callable[[str], Path]
Round = Dict[str, float]
Results = Dict[Tuple[str, str], List[Round]]
"""The figures of each round, by case and row."""


def cores() -> List[int]:
    """Return the cores that this process may use, or none if they are not known."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))


def pin(process: subprocess.Popen[str], which: int) -> None:
    """Give a process one core, if there are two to give."""
    usable = cores()
    if len(usable) > 1:
        os.sched_setaffinity(process.pid, {usable[which]})


_OF_THIS_MACHINE = ("PYTHON", "FLOWMAESTRO", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
"""The beginnings of names of variables that would have a row do other work than elsewhere."""


def start(command: List[str], **options: Any) -> subprocess.Popen[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OF_THIS_MACHINE) and not name.lower().endswith("_proxy")
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str]) -> Generator[subprocess.Popen[str], None, None]:
    """Stop the process at the end, by ending its input."""
    try:
        yield process
    finally:
        process.communicate()


@contextlib.contextmanager
def serving() -> Generator[str, None, None]:
    """Yield the base URL of a running server."""
    with stopped(start([sys.executable, "-m", "benchmarks.server"], cwd=ROOT)) as server:
        assert server.stdout is not None
        pin(server, 1)
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"


class Worker:
    """A row's process: it is told a task, does it, and says what that took."""

    def __init__(self, row: Row, python: Path, url: str) -> None:
        script = str(WORKERS / f"{row.script}.py")
        self.row = row
        self.process = start([str(python), script, url, *row.arguments], cwd=tempfile.gettempdir())
        pin(self.process, 0)

    def do(self, case: Case) -> Round:
        """Do the case once; raises `RuntimeError` if the worker dies of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"task": case.task, "count": case.count, "options": case.options}
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.row.name} could not do {case.name!r}")
        measured: Round = json.loads(answer)
        return measured


def run(
    benchmark: Benchmark, rows: Tuple[Row, ...], url: str, interpreters: Interpreters
) -> Results:
    """Every case of the benchmark, with these of its rows."""
    results: Results = {}
    rounds = benchmark.rounds
    named = {row.name: row for row in rows}
    if rounds > 1:
        named[rows[0].name + AGAIN] = rows[0]
    with contextlib.ExitStack() as stack:

        def start_worker(row: Row) -> Worker:
            worker = Worker(row, interpreters(row.environment), url)
            stack.enter_context(stopped(worker.process))
            return worker

        kept = {} if benchmark.fresh else {name: start_worker(named[name]) for name in named}
        for case in benchmark.cases:
            print(f"{benchmark.name}: {case.name}", file=sys.stderr)
            if rounds > 1:
                for worker in kept.values():
                    worker.do(case.scaled(WARM_UP))
            for number in range(rounds):
                # Each round begins with another row: what comes after a slow row may be slower.
                names = [*named]
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    row = named[name]
                    worker = kept.get(name) or start_worker(row)
                    results.setdefault((case.name, name), []).append(worker.do(case))
                    if benchmark.fresh:
                        stack.close()
    return results
