"""Batches with a journal that are killed, over a real socket, and go on.

Run by itself it is the batch that is killed: `dying_batch.py URL KEY JOURNAL ROWS RESULTS`.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import urlsplit

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro_core.http.messages import Request

WORKFLOW = "wf_dying"
SETTLE_AFTER = 0.5


class FaultyService(FakeFlowMaestro):
    """Loses a part of the replies, and answers others with an error.

    With `hides`, the list of executions is empty, as it is for the key of another workspace.
    """

    def __init__(self, seed: int, faults: float) -> None:
        super().__init__(seed=seed)
        self.hides = False
        self._own_dice = random.Random(seed)
        self._share = faults
        self.workflow(WORKFLOW, nodes=[Node("work", seconds=0.02)], outputs=dict)

    def handle(self, request: Request, now: float) -> Any:
        path = urlsplit(request.url).path.partition("/api/v1")[2]
        with self.lock:
            if self._own_dice.random() < self._share:
                where: Dict[str, Any] = {"method": request.method, "path": path}
                kind = self._own_dice.choice(["drop", "drop", "500", "503"])
                if kind == "drop":
                    self.drop_connection(**where)
                else:
                    self.fail_next(status=int(kind), **where)
            if self.hides and path == "/executions":
                url = request.url.replace(WORKFLOW, "wf_nobody_has")
                request = Request(request.method, url, request.headers, request.body)
            return super().handle(request, now)


def run(url: str, key: str, journal: str, rows: int, results: str) -> None:
    """The same call each time; each outcome is written down by its index."""
    with FlowMaestroClient(key, base_url=url) as client, open(results, "a") as file:
        inputs = [{"n": number} for number in range(rows)]
        for outcome in client.workflows.run_many(
            WORKFLOW,
            inputs,
            journal=journal,
            poll_interval=0.05,
            settle_after=SETTLE_AFTER,
            concurrency=8,
        ):
            file.write(json.dumps([outcome.index, outcome.ok, repr(outcome.error)]) + "\n")
            file.flush()


def killed_and_finished(
    seed: int, rows: int, folder: Path, *, kills: int = 3, hides: bool = False
) -> List[Any]:
    """Kill a batch at random moments, then let it finish; the outcomes of the last run.

    Raises `AssertionError` if a row was started twice. A row that was not started is missing.
    """
    dice, service = random.Random(seed), FaultyService(seed, 0.05)
    journal, results = folder / "runs.sqlite3", folder / "results"
    with running_server(service) as url:
        command = [sys.executable, __file__, url, service.api_key, str(journal), str(rows)]
        for _ in range(kills):
            begun = len(service.executions)
            aim = begun + dice.randrange(1, max(rows // (kills + 1), 2))
            with subprocess.Popen([*command, str(results)]) as process:
                while process.poll() is None and len(service.executions) < aim:
                    time.sleep(0.001)
                time.sleep(dice.random() * 0.02)
                process.send_signal(signal.SIGKILL)
        service.hides = hides
        results.unlink(missing_ok=True)
        subprocess.run([*command, str(results)], check=True, timeout=280)
    ledger = Counter(execution.inputs["n"] for execution in service.executions)
    twice = {number: times for number, times in ledger.items() if times > 1}
    assert not twice, f"seed {seed}: started more than once: {twice}"
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(index for index, _, _ in outcomes) == list(range(rows)), f"seed {seed}"
    if not hides:
        assert sorted(ledger) == list(range(rows)), f"seed {seed}: not all were started"
        assert all(ok for _, ok, _ in outcomes), [it for it in outcomes if not it[1]]
    return outcomes


def main(arguments: List[str]) -> None:
    """Twenty seeds, 2,000 rows; or those that are given: `SEED ROWS`."""
    import tempfile

    seeds = [int(arguments[0])] if arguments else range(20)
    rows = int(arguments[1]) if len(arguments) > 1 else 2_000
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            killed_and_finished(seed, rows, Path(folder))
            print(f"seed {seed}: {rows} rows, {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 6:
        run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        main(sys.argv[1:])
