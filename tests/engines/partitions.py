"""What the drivers of Spark, Ray and Dask share: the jobs of `docs/stores.md`.

A job runs as the page says, with one batch a partition on a store. Meanwhile workers are killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

from tests.engines.service import (
    KILLS,
    SETTLE_AFTER,
    Process,
    Workers,
    kinds_of_kills,
    ledger,
    redis_server,
    report,
    service,
    until,
)
from tests.engines.stores_driver import PAGE, text_with
from tests.harness.house.pages import blocks_of

ROWS = 200
JOB = "invoices 2026-12-01"


class Cluster(Workers):
    """A cluster of an engine that divides rows."""

    def __init__(self, head: Process, workers: List[Process]) -> None:
        super().__init__(workers)
        self.head = head

    def end(self) -> None:
        super().end()
        self.head.kill()

    def submit(self, job: Path, output: Path) -> Process:
        """Run the job; its standard output goes to a file."""
        raise NotImplementedError


def write_job(folder: Path, name: str, *, bare: bool) -> Path:
    """Write the files of the page into a folder, without the store if `bare`; return the job."""
    texts = {block.file: block.text for block in blocks_of(PAGE) if block.file}
    # The page has the default of 60 s.
    kept = f", journal=store, settle_after={SETTLE_AFTER}"
    partitions = texts["partitions"].replace(", journal=store", "" if bare else kept)
    if partitions == texts["partitions"]:
        sys.exit("the page passes no store")
    (folder / "stores.py").write_text(text_with("class RedisStore"))
    (folder / "partitions.py").write_text(partitions)
    job = folder / f"{name}.py"
    job.write_text(texts[name])
    return job


def prove(what: str, name: str, start: Callable[[Path], Cluster], *, bare: bool) -> Dict[str, int]:
    """Run a job, kill each time after some more starts, and return the figures at its end.

    `start` gets a folder for what the engine writes.
    """
    rng = random.Random(7)
    with contextlib.ExitStack() as stack:
        os.environ["REDIS_URL"] = stack.enter_context(redis_server())
        fake = stack.enter_context(service(2.0))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "job").mkdir()
        job = write_job(folder / "job", name, bare=bare)
        os.environ["PYTHONPATH"] += os.pathsep + str(job.parent)
        cluster = stack.enter_context(start(folder))
        output = folder / "output"
        running = cluster.submit(job, output)
        stack.callback(running.kill)
        for number, kind in enumerate(kinds_of_kills(rng)):
            aim = (number + 1) * ROWS // (KILLS + 2)
            until(
                lambda: cluster.supervised() and len(ledger(fake)) >= aim,  # noqa: B023
                timeout=600,
            )
            time.sleep(rng.random())
            cluster.kill(kind, rng)
        running.end(timeout=1200)
        print(output.read_text().strip().splitlines()[-1:])
        return report(what, fake, ROWS, KILLS)


def prove_both(what: str, name: str, start: Callable[[Path], Cluster]) -> Dict[str, int]:
    """Print the figures of a job with the store, and without it. Return the former.

    With the argument `few`, only with the store.
    """
    figures = prove(what, name, start, bare=False)
    if "few" not in sys.argv:
        prove("the same without a store", name, start, bare=True)
    return figures
