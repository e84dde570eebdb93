"""The processes that are killed at a system call: `URL KEY FOLDER`, trials on standard input.

This process has loaded the shim, and forks a process for each attempt of a trial. The first attempt
is killed, or one of its system calls fails. The second one makes the same call and must end. Both
import nothing, so a trial takes little more than its work. Each line of the output is a trial with
what became of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sqlite3
import sys
import traceback
from collections import deque
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Deque, Dict, Tuple

from flowmaestro import Checkpoint, FlowMaestroClient, JournalError
from flowmaestro.errors import FlowMaestroError
from flowmaestro_transports.driving import journal

AT_ONCE = 8
ROWS = 3
SETTLE_AFTER = 2.0
"""A save that takes half of it, on a busy machine, would be repeated."""
LONGEST = 120
"""After so many seconds, an attempt counts as hung."""
PAGES = 12
"""Few, so that a small batch moves its pages from the `-wal` file to the journal, too."""
REFUSED = 3
"""The exit status of an attempt that says that the journal is damaged, or has lost its `-wal`."""

Trial = Dict[str, Any]


def batch(client: FlowMaestroClient, trial: Trial, path: Path) -> None:
    """Run the batch; raise unless all rows complete."""
    rows = [{"trial": trial["number"], "n": number} for number in range(ROWS)]
    workflow: str = trial["workflow"]
    runs = client.workflows.run_many(
        workflow,
        rows,
        journal=path,
        poll_interval=0.02,
        settle_after=SETTLE_AFTER,
        concurrency=2,
    )
    with runs:
        for outcome in runs:
            if outcome.error is not None:
                raise outcome.error


def run(client: FlowMaestroClient, trial: Trial, path: Path) -> None:
    """Run one workflow with a checkpoint in a file."""
    checkpoint = Checkpoint.file(path, settle_after=SETTLE_AFTER)
    inputs = {"trial": trial["number"], "n": 0}
    client.workflows.run(trial["workflow"], inputs, checkpoint=checkpoint)


WORK = {"journal": batch, "checkpoint": run}


def arm(trial: Trial, folder: Path) -> None:
    """Make the system calls of this process count."""
    log = os.open(f"{folder}.calls", os.O_WRONLY | os.O_CREAT, 0o600)
    shim: Any = ctypes.CDLL(None)
    at = ctypes.c_long(trial["at"])
    shim.shim_arm(os.fsencode(f"{folder}/"), at, trial["action"], trial["error"], log)


def attempt(url: str, key: str, folder: Path, trial: Trial, is_first: bool) -> int:
    """Make one attempt; return its exit status."""
    signal.alarm(LONGEST)
    if is_first:
        arm(trial, folder)
    try:
        with FlowMaestroClient(key, base_url=url) as client:
            WORK[trial["kind"]](client, trial, folder / "kept")
    except FlowMaestroError as error:
        if is_first:
            return 0  # It may end with an error of ours.
        if isinstance(error, JournalError) and error.code == "journal_unusable":
            return REFUSED
        traceback.print_exc()
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def in_child(*args: Any) -> int:
    """Fork a process that makes one attempt; return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = attempt(*args)
        finally:
            os._exit(status)
    return child


def between(trial: Trial, folder: Path) -> None:
    """Do to the journal of a killed batch what others may do to it."""
    kept = folder / "kept"
    if trial["then"] == "read" and kept.exists():
        with closing(sqlite3.connect(kept)) as db, suppress(sqlite3.OperationalError):
            db.execute("SELECT count(*) FROM rows").fetchone()
    elif trial["then"] == "lose":
        with suppress(FileNotFoundError):
            Path(f"{kept}-wal").unlink()


def main(url: str, key: str, folder: Path) -> None:
    """Run the trials. Report for each one the wait status of both attempts."""
    journal._PAGES = PAGES
    waiting: Deque[Trial] = deque(map(json.loads, sys.stdin))
    with FlowMaestroClient(key, base_url=url) as client:  # What it imports, no child has to import.
        for kind, work in WORK.items():
            work(client, {**waiting[0], "number": ""}, folder / kind)
    running: Dict[int, Tuple[Trial, Path, bool]] = {}

    def start(trial: Trial, is_first: bool) -> None:
        place = folder / f"{trial['number']}"
        place.mkdir(exist_ok=True)
        running[in_child(url, key, place, trial, is_first)] = trial, place, is_first

    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            start(waiting.popleft(), True)
        child, status = os.wait()
        trial, place, is_first = running.pop(child)
        if is_first:
            trial["first"] = status
            between(trial, place)
            start(trial, False)
        else:
            trial["second"] = status
            print(json.dumps(trial), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
