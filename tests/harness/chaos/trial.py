"""One trial: a transport, plain or under TLS, in a world of its own, and its operations."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import trustme

from flowmaestro.testing import Node, running_server
from flowmaestro.testing.conformance.runner import run_to_its_end
from tests.harness.chaos.claims import Answered, Refused
from tests.harness.chaos.clients import QuickDice, a_client
from tests.harness.chaos.ledger import Ledger, LedgerFake
from tests.harness.chaos.operations import AGENT, OPERATIONS, QUICK, SLOW, Task
from tests.harness.chaos.plan import plan
from tests.harness.chaos.proxy import running_proxy
from tests.harness.faults.open_files import open_files
from tests.harness.runners import RUNNERS, Runner

SPEED = 20.0
"""Seconds in which the server lives, in each of ours."""

WORKERS = 24
ANSWER_SECONDS = 60.0
"""A generous bound of what an operation may take on a machine that is busy with other things."""

LEAVES_AFTER = (0.0, 0.3)
"""Seconds after which an impatient caller cancels what it is waiting for."""

SETTLE_SECONDS = 15.0
"""How long sockets and streams may take to be gone, stalls of the proxy included."""

UNLIMITED = 10**9
WORLDS: Sequence[Dict[str, Any]] = (
    {"shapes": "documented", "events": "live", "messages": "sse"},
    {"shapes": "deployed", "events": "silent", "messages": "refused"},
    {"shapes": "deployed", "events": "live", "messages": "sse"},
)


@dataclass(frozen=True)
class Trial:
    """`operations` by `workers` over the transport `name`; `make` stands in for its class."""

    name: str
    tls: bool
    seed: int
    operations: int
    world: int = 0
    workers: int = WORKERS
    make: Optional[Callable[..., Any]] = None

    @property
    def title(self) -> str:
        """The name of the trial in the output."""
        return f"{self.name} {'TLS' if self.tls else 'plain'}"

    @property
    def runner(self) -> Runner:
        """The transport and where it runs."""
        runner = RUNNERS[self.name]
        return runner if self.make is None else replace(runner, make=self.make, on_session=None)

    def tasks_of(self, worker: int) -> List[Task]:
        """What a worker does, one after another; follows from the seed."""
        rng = random.Random(f"{self.seed} {self.title} {worker}")
        share = range(worker, self.operations, self.workers)
        prefix = self.title.replace(" ", "-")
        return [
            Task(
                kind=rng.choice(list(OPERATIONS)),
                mark=f"{prefix}-{number}",
                rng=random.Random(f"{self.seed} {number}"),
                patience=rng.uniform(*LEAVES_AFTER) if rng.random() < 0.05 else ANSWER_SECONDS,
            )
            for number in share
        ]


@dataclass
class Outcome:
    """How one operation ended: at its end, in an `error`, or because the caller `left`."""

    task: Task
    error: Optional[BaseException]
    seconds: float
    left: bool = False


@dataclass
class Report:
    """What a trial came to."""

    trial: Trial
    outcomes: List[Outcome] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    requests: int = 0
    claims: int = 0
    seconds: float = 0.0
    violations: List[str] = field(default_factory=list)
    """What was doubled, invented, left without an answer or leaked."""

    @property
    def errors(self) -> Counter[str]:
        """How often operations ended in which error."""
        return Counter(type(one.error).__name__ for one in self.outcomes if one.error)


def run_trial(trial: Trial) -> Report:
    """Do all operations of a trial, and hold what callers were told against the ledger."""
    report = Report(trial)
    gc.collect()
    files, began = open_files(), time.monotonic()
    with _world(trial) as (fake, proxy, url, verify):
        anyio.run(_run, report, fake, url, verify, backend=trial.runner.backend or "asyncio")
        if not _settles(lambda: not proxy.open):
            report.violations.append(f"{proxy.open} connections outlive their client")
        report.connections, report.faults = proxy.connections, proxy.faults
    if not _settles(lambda: open_files() <= files):
        report.violations.append(f"{open_files() - files} files are left open")
    _audit(report, fake)
    report.seconds = time.monotonic() - began
    return report


@contextmanager
def _world(trial: Trial) -> Iterator[Any]:
    fake = LedgerFake(**WORLDS[trial.world % len(WORLDS)], seed=trial.seed)
    fake.rate_limit(per_minute=UNLIMITED, per_day=UNLIMITED)
    for id, seconds in ((QUICK, 0.5), (SLOW, 200.0)):
        nodes = [Node("one", "One", seconds=seconds), Node("two", "Two", seconds=seconds)]
        fake.workflow(id, nodes=nodes, outputs=lambda inputs: {**inputs, "ok": True})
    for number in range(20):
        fake.workflow(name=f"Workflow {number}")
    fake.agent(AGENT, fake.reply_to, seconds=1.0)
    authority = trustme.CA()
    tls: Optional[ssl.SSLContext] = None
    if trial.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    plans = partial(plan, f"{trial.seed} {trial.title}", flips=trial.tls)
    with TemporaryDirectory() as folder, running_server(fake, speed=SPEED) as server:
        pem = Path(folder, "authority.pem")
        authority.cert_pem.write_to_path(str(pem))
        with running_proxy(int(urlsplit(server).port or 0), plans, tls) as proxy:
            scheme = "https" if trial.tls else "http"
            yield fake, proxy, f"{scheme}://127.0.0.1:{proxy.port}", str(pem)


def _transport(trial: Trial, verify: str) -> Any:
    transport = trial.runner.made(**({"verify": verify} if trial.tls else {}))
    transport.random = QuickDice(f"{trial.seed} {trial.title}")
    return transport


async def _run(report: Report, fake: LedgerFake, url: str, verify: str) -> None:
    trial = report.trial
    blocks = trial.runner.backend is None
    transport = _transport(trial, verify)
    threads = anyio.CapacityLimiter(trial.workers)

    async def work(worker: int) -> None:
        client = a_client(trial.runner, transport, url, fake.api_key)
        for task in trial.tasks_of(worker):
            began = time.monotonic()
            error: Optional[BaseException] = None
            steps = OPERATIONS[task.kind](client, task)
            # A thread cannot be cancelled. One that hangs is abandoned; closing wakes it.
            patience = ANSWER_SECONDS if blocks else task.patience
            with anyio.move_on_after(patience) as scope:
                try:
                    if blocks:
                        await anyio.to_thread.run_sync(
                            run_to_its_end, steps, abandon_on_cancel=True, limiter=threads
                        )
                    else:
                        await steps
                except Exception as caught:
                    error = caught
            seconds, left = time.monotonic() - began, scope.cancelled_caught
            if left:
                with suppress(ValueError):  # It runs in a thread that goes on.
                    steps.close()  # Else one that has not begun would warn.
            if left and patience == ANSWER_SECONDS:
                report.violations.append(f"no answer to {task.kind} {task.mark}")
            report.outcomes.append(Outcome(task, error, seconds, left))

    async with anyio.create_task_group() as group:
        for worker in range(trial.workers):
            group.start_soon(work, worker)
    if not await _settles_here(lambda: not fake.open_streams):
        report.violations.append(f"{fake.open_streams} event streams are left open")
    if blocks:
        transport.close()
    else:
        await transport.close()
    if not await _settles_here(lambda: _other_tasks() == 0):
        report.violations.append(f"{_other_tasks()} tasks go on")


def _other_tasks() -> int:
    """How many tasks there are beside this one; trio forbids what would leave any."""
    try:
        return len(asyncio.all_tasks()) - 1
    except RuntimeError:
        return 0


def _settles(settled: Callable[[], bool]) -> bool:
    """Beside every event loop, which has files of its own."""
    until = time.monotonic() + SETTLE_SECONDS
    while not settled() and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    return settled()


async def _settles_here(settled: Callable[[], bool]) -> bool:
    until = time.monotonic() + SETTLE_SECONDS
    while not settled() and time.monotonic() < until:
        gc.collect()
        await anyio.sleep(0.02)
    return settled()


def _audit(report: Report, fake: LedgerFake) -> None:
    ledger = Ledger(fake)
    report.requests = len(ledger.entries)
    report.violations += ledger.doubled()
    missing = report.trial.operations - len(report.outcomes)
    if missing:
        report.violations.append(f"{missing} operations without an answer")
    misreads = report.trial.name == "requests"
    for outcome in report.outcomes:
        task = outcome.task
        claims = list(task.claims)
        if outcome.error is not None:
            key = None if claims else task.mark
            claims.append(Refused(outcome.error, key, misreads))
        report.claims += len(claims)
        for claim in claims:
            if misreads and isinstance(claim, Answered) and claim.reply == {"data": None}:
                continue  # urllib3 takes a body that was lost after its head for an empty one.
            lie = claim.lie(ledger)
            if lie:
                report.violations.append(f"{task.kind} {task.mark}: {lie}")
