"""The file in which `serve` keeps executions, so that a client can try a restart of the server.

It is an SQLite database, with a row for each execution that a request has started. A row is written
before the response to the start, and after each event. SQLite writes each row whole or not at all,
so a server that is killed loses nothing that it has answered. A power failure may lose rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any, Dict, Iterator, Tuple, cast

from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.executions import Execution, Workflow
from flowmaestro.testing.fake.model.plans import ENDINGS

MAX_KEPT = 10_000
"""The most executions in the file, as many as `serve` keeps in memory; the oldest go first."""
_FORMAT = 1
"""`user_version` of the database. A file of another version is refused."""
_NONE = type(None)
_VALUES = {
    "inputs": (dict, list),
    "trigger_id": (str, _NONE),
    "status": (str,),
    "outputs": (dict, _NONE),
    "error": (str, _NONE),
    "failed_nodes": (dict,),
}
"""The attributes of an execution in its row, with the types that each may have."""
_TIMES = {
    "created_at": (int, float),
    "started_at": (int, float, _NONE),
    "completed_at": (int, float, _NONE),
}
"""The same for its times, which are Unix seconds in the row."""
_LATEST = 1e11
"""A time in the year 5138. Much later ones, and NaN, cannot be shown as a date."""
_STATUSES = ("pending", "running", "paused", *ENDINGS.values())


class StateFile:
    """The executions of a fake, in a file. Raises `ValueError` or `OSError` for an unusable file.

    Make it when the fake has its workflows: executions that had not ended continue. The events that
    were due while no server ran happen at once. On POSIX, only this user may read a new file.
    """

    def __init__(self, path: str, fake: FakeFlowMaestro) -> None:
        self._fake = fake
        self._taken: Dict[str, int] = {}
        """How many steps of its plan each execution has taken, by its id."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        # The server may call from several threads, one at a time: it holds the lock of the fake.
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open(path)
            with fake.lock:
                for execution, taken in self._read(path):
                    self._taken[execution.id] = taken
                    fake.restore(execution, taken)
                fake.note_changes(self._changed)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file. Later changes are not kept."""
        with self._fake.lock:
            self._fake.note_changes(lambda _execution, _started: None)
            self._file.close()

    def _open(self, path: str) -> None:
        try:
            # A killed process loses no row without a sync, because the system has it already.
            self._file.execute("PRAGMA synchronous=OFF")
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("BEGIN IMMEDIATE")
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            names = self._file.execute("SELECT name FROM sqlite_master").fetchall()
            if version != _FORMAT and names:
                raise ValueError(f"{path} is not a file of executions of this version")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS executions"
                " (number INTEGER PRIMARY KEY, id TEXT UNIQUE, row TEXT NOT NULL)"
            )
            self._file.execute(f"PRAGMA user_version={_FORMAT}")
            self._file.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            reason = "another server uses it" if "locked" in str(error) else str(error)
            raise ValueError(f"{path} cannot be used: {reason}") from error

    def _read(self, path: str) -> Iterator[Tuple[Execution, int]]:
        zero = self._fake.unix_time(0.0)
        workflows = self._fake.workflows
        try:
            rows = self._file.execute("SELECT id, row FROM executions ORDER BY number").fetchall()
            decoded = [(id, _checked(id, json.loads(text))) for id, text in rows]
        except (sqlite3.DatabaseError, ValueError, TypeError, RecursionError) as error:
            remedy = "remove it to begin without executions"
            raise ValueError(f"{path} is damaged: {error}; {remedy}") from error
        for id, row in decoded:
            about = row["workflow"]
            # The workflow of a seed file may be gone; its executions are shown all the same.
            gone = Workflow(about["id"], about["name"], 0.0, plan=())
            execution = Execution(
                id,
                workflows.get(about["id"], gone),
                created_at=0.0,
                **{name: row[name] for name in _VALUES},
            )
            for name in _TIMES:
                setattr(execution, name, None if row[name] is None else row[name] - zero)
            yield execution, row["taken"]

    def _changed(self, execution: Execution, started: bool) -> None:
        """Write an execution that was `started`, or that has taken a step."""
        if started:
            self._taken[execution.id] = 0
        elif execution.id not in self._taken:
            return  # One of those that a new fake holds.
        else:
            self._taken[execution.id] += 1
        row: Dict[str, Any] = {name: getattr(execution, name) for name in _VALUES}
        for name in _TIMES:
            moment = getattr(execution, name)
            row[name] = None if moment is None else self._fake.unix_time(moment)
        row["workflow"] = {"id": execution.workflow.id, "name": execution.workflow.name}
        row["taken"] = self._taken[execution.id]
        self._file.execute(
            "INSERT INTO executions (id, row) VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET row = excluded.row",
            (execution.id, json.dumps(row)),
        )
        if started and len(self._taken) > MAX_KEPT:
            oldest = next(iter(self._taken))
            del self._taken[oldest]
            self._file.execute("DELETE FROM executions WHERE id = ?", (oldest,))


def _checked(id: object, row: object) -> Dict[str, Any]:
    """Return the row of an execution. Raise `ValueError` unless it is one that was written here."""
    values = cast("Dict[str, Any]", row) if isinstance(row, dict) else {}
    kinds = {**_VALUES, **_TIMES, "workflow": (dict,), "taken": (int,)}
    about = values.get("workflow")
    if (
        not isinstance(id, str)
        or not all(name in values and type(values[name]) in kinds[name] for name in kinds)
        or not all(isinstance(cast("Any", about).get(name), str) for name in ("id", "name"))
        or values["status"] not in _STATUSES
        or not all(0 <= (values[name] or 0) < _LATEST for name in _TIMES)
        or values["taken"] < 0
    ):
        raise ValueError(f"the row of execution {id!r} is malformed")
    return values
