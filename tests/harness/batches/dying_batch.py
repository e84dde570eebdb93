"""Batches with a journal that are killed, over a real socket, and go on.

`python -m tests.harness.batches.dying_batch` runs ten seeds of 2,000 rows, or `SEED ROWS`.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Set
from typing import Counter as Counts
from urllib.parse import urlsplit

from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro_core.http.messages import Request
from tests.harness.batches.batch_to_kill import WORKFLOW

BATCH = Path(__file__).with_name("batch_to_kill.py")


class FaultyService(FakeFlowMaestro):
    """Loses a part of the replies, and answers others with an error."""

    def __init__(self, seed: int, faults: float) -> None:
        super().__init__(seed=seed)
        self._hides = False
        self._own_rng = random.Random(seed)
        self._share = faults
        self.refused: Counts[int] = Counter()
        """How often the start of each row was answered with an error 500."""
        self.workflow(WORKFLOW, nodes=[Node("work", seconds=0.02)], outputs=dict)

    def hide(self) -> None:
        """From now on the list is empty, as for the key of another workspace, and all is well."""
        self._hides, self._share = True, 0.0

    def handle(self, request: Request, now: float) -> Any:
        path = urlsplit(request.url).path.partition("/api/v1")[2]
        with self.lock:
            if self._own_rng.random() < self._share:
                where: Dict[str, Any] = {"method": request.method, "path": path}
                kind = self._own_rng.choice(["drop", "drop", "500", "503"])
                if kind == "drop":
                    self.drop_connection(**where)
                else:
                    self.fail_next(status=int(kind), **where)
                if kind == "500" and path.endswith("/execute"):
                    self.refused[json.loads(request.body)["inputs"]["n"]] += 1
            if self._hides and path == "/executions":
                url = request.url.replace(WORKFLOW, "wf_nobody_has")
                request = Request(request.method, url, request.headers, request.body)
            return super().handle(request, now)


def killed_and_finished(
    seed: int, rows: int, folder: Path, *, kills: int = 3, hides: bool = False
) -> List[Any]:
    """Kill a batch at random moments, then let it finish; the outcomes of the last run.

    With `hides`, the last run has no faults and a list that is empty. Raises `AssertionError` if a
    row was started twice, was not started, or is not what it must be in the end: complete, or, if
    it was in doubt and the list is empty, unknown. A row whose start was answered twice with the
    same error 500 may have failed, and then was not started.
    """
    rng, service = random.Random(seed), FaultyService(seed, 0.05)
    journal, results = folder / "runs.sqlite3", folder / "results"
    with running_server(service) as url:
        command = [sys.executable, str(BATCH), url, service.api_key, str(journal), str(rows)]
        for _ in range(kills):
            begun = len(service.executions)
            aim = begun + rng.randrange(1, max(rows // (kills + 1), 2))
            with subprocess.Popen([*command, str(results)]) as process:
                while process.poll() is None and len(service.executions) < aim:
                    time.sleep(0.001)
                time.sleep(rng.random() * 0.02)
                process.send_signal(signal.SIGKILL)
        unknown = set()
        if hides:
            service.hide()
            unknown = in_doubt(journal)
        results.unlink(missing_ok=True)
        subprocess.run([*command, str(results)], check=True, timeout=280)
    ledger = Counter(execution.inputs["n"] for execution in service.executions)
    twice = {number: times for number, times in ledger.items() if times > 1}
    assert not twice, f"seed {seed}: started more than once: {twice}"
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(index for index, _, _ in outcomes) == list(range(rows)), f"seed {seed}"
    failed = {index for index, ok, _ in outcomes if not ok}
    refused = {index for index, times in service.refused.items() if times > 1} & failed
    assert failed - refused == unknown, f"seed {seed}: failed: {sorted(failed - refused)}"
    if not hides:
        assert {*ledger} == {*range(rows)} - refused, f"seed {seed}: not all were started"
    return outcomes


_STARTING = (
    "SELECT key FROM rows LEFT JOIN started USING (start) WHERE start AND execution_id IS NULL"
)


def in_doubt(journal: Path) -> Set[int]:
    """The rows that were being started when the process died."""
    with closing(sqlite3.connect(journal)) as db:
        return {int(key) for (key,) in db.execute(_STARTING)}


def main(arguments: List[str]) -> None:
    """Ten seeds, 2,000 rows; or those that are given: `SEED ROWS`."""
    import tempfile

    seeds = [int(arguments[0])] if arguments else range(10)
    rows = int(arguments[1]) if len(arguments) > 1 else 2_000
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            killed_and_finished(seed, rows, Path(folder))
            print(f"seed {seed}: {rows} rows, {time.monotonic() - begun:.1f} s", flush=True)
    said = f"{len(seeds)} batches of {rows} rows, each killed three times"
    print(f"{said}: each row was started once")


if __name__ == "__main__":
    main(sys.argv[1:])
