"""Processes that run tasks with a checkpoint in SQLite and die: `URL FOLDER SEED TASKS`.

Each attempt of a task is a process, forked from this one. It may kill itself before or after each
load, save and request. This process makes another attempt, as an engine does, until one ends. Every
third task has two processes at once.

A pause takes no time here, but it lasts as it would: until the other process of the task is dead,
done, or pauses as well. So no busy machine can make a process stall for longer than `settle_after`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import sqlite3
import sys
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Tuple

from flowmaestro import Checkpoint, CheckpointConflict, FlowMaestroClient
from flowmaestro_transports.sockets.transport import SocketTransport

WORKFLOW = "wf_durable"
AT_ONCE = 3
POINTS = 16
"""An attempt passes so many points at most where it may kill itself."""


class Store:
    """One row of a table for each task, with compare and swap."""

    def __init__(self, path: Path, task: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._task = task

    @staticmethod
    def create(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE kept (task INTEGER PRIMARY KEY, serial INTEGER, state TEXT)")

    def load(self) -> Any:
        query = "SELECT state FROM kept WHERE task = ?"
        row = self._db.execute(query, (self._task,)).fetchone()
        return None if row is None else json.loads(row[0])

    def save(self, state: Dict[str, Any]) -> None:
        row = {"task": self._task, "serial": state["serial"], "state": json.dumps(state)}
        if state["serial"] == 1:
            change = "INSERT OR IGNORE INTO kept VALUES (:task, :serial, :state)"
        else:
            change = (
                "UPDATE kept SET serial = :serial, state = :state "
                "WHERE task = :task AND serial = :serial - 1"
            )
        if self._db.execute(change, row).rowcount == 0:
            raise CheckpointConflict


class Attempt:
    """One process: its locks say whether it works, and it dies at a point that is chosen."""

    def __init__(self, folder: Path, task: int, place: int, dies_at: int) -> None:
        self._own = os.open(folder / f"{task}-{place}", os.O_CREAT | os.O_RDWR)
        self._other = os.open(folder / f"{task}-{1 - place}", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._own, fcntl.LOCK_EX)
        self._left = dies_at

    def point(self) -> None:
        """Die here, if this is the point."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def pause(self) -> None:
        """Wait until the other process does nothing any more."""
        fcntl.flock(self._own, fcntl.LOCK_UN)
        fcntl.flock(self._other, fcntl.LOCK_EX)
        fcntl.flock(self._other, fcntl.LOCK_UN)
        fcntl.flock(self._own, fcntl.LOCK_EX)


class DyingTransport(SocketTransport):
    """Dies before or after a request, and lets long pauses pass at once."""

    attempt: Attempt
    _skipped = 0.0

    def send(self, request: Any, timeout: float) -> Any:
        self.attempt.point()
        response = super().send(request, timeout)
        self.attempt.point()
        return response

    def sleep(self, seconds: float) -> None:
        if seconds < 30:
            super().sleep(seconds)
        else:
            self.attempt.pause()
            self._skipped += seconds

    def now(self) -> float:
        return super().now() + self._skipped


def run(url: str, folder: Path, task: int, place: int, dies_at: int) -> None:
    """Run one attempt to its end."""
    attempt = Attempt(folder, task, place, dies_at)
    store = Store(folder / "kept.db", task)
    transport = DyingTransport()
    transport.attempt = attempt

    def load() -> Any:
        attempt.point()
        state = store.load()
        attempt.point()
        return state

    def save(state: Dict[str, Any]) -> None:
        attempt.point()
        store.save(state)
        attempt.point()

    client = FlowMaestroClient(base_url=url, transport=transport)
    ended = client.workflows.run(WORKFLOW, {"task": task}, checkpoint=Checkpoint(load, save))
    with (folder / "ended.jsonl").open("a") as file:
        file.write(json.dumps([task, ended["id"], ended["status"]]) + "\n")


def in_child(*args: Any) -> int:
    """Fork a process that makes one attempt; return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        run(*args)
        status = 0
    except BaseException as error:
        sys.stderr.write(f"task {args[2]}: {error!r}\n")
    finally:
        os._exit(status)


def main(url: str, folder: Path, seed: int, tasks: int) -> None:
    Store.create(folder / "kept.db")
    run(url, folder, -1, 0, 0)  # What it imports, no child has to import.
    rng = random.Random(seed)
    waiting: Deque[Tuple[int, int, int]] = deque()
    for task in range(tasks):
        waiting.extend((task, place, 0) for place in range(2 if task % 3 == 0 else 1))
    running: Dict[int, Tuple[int, int, int]] = {}
    kills = 0
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            task, place, deaths = waiting.popleft()
            dies_at = rng.randrange(1, POINTS) if deaths < 3 else 0
            child = in_child(url, folder, task, place, dies_at)
            running[child] = (task, place, deaths)
        child, status = os.wait()
        task, place, deaths = running.pop(child)
        if os.WIFSIGNALED(status):
            kills += 1
            waiting.appendleft((task, place, deaths + 1))
        elif os.WEXITSTATUS(status):
            sys.exit(f"an attempt of task {task} has failed")
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
