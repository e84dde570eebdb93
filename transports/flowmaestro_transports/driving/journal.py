"""The journal of a batch: an SQLite file, and a lock beside it.

Touches the disk, in the thread of the driver, and reads a wall clock that it is given. A power
loss cannot undo what was recorded as durable; the end of the process cannot undo anything. While
it is open the journal is up to three files that belong together (`-wal`, `-shm`), and anybody may
read it; the lock is a file of its own, that stays.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

from flowmaestro_core.actions import Record
from flowmaestro_core.errors import JournalError
from flowmaestro_core.records import JournalPlan, JournalRow, Recalled
from flowmaestro_transports.driving.fork_guard import ForkGuard

APPLICATION_ID = 0x464D4A31
"""In the header of the SQLite file: this is a journal of ours, of this format."""
_STATES = ("open", "starting", "started", "ended")
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE header (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rows (
    key PRIMARY KEY,      -- the row's index, or what `key=` makes of it
    digest BLOB,          -- of its inputs
    state INTEGER,        -- 0 open, 1 starting, 2 started, 3 ended
    reruns INTEGER,      -- how often it was started again on the caller's wish
    number INTEGER,       -- of its start, in the order of the starts
    at REAL,              -- when it was recorded as starting, in Unix seconds
    execution_id TEXT,
    ended INTEGER         -- which row of `executions` says how it ended
) WITHOUT ROWID;
CREATE TABLE executions (number INTEGER PRIMARY KEY, execution TEXT);
CREATE TABLE past (execution_id TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
"""
_RECALL = "SELECT key, digest, state, reruns, execution_id, NULL, number, at FROM rows WHERE "
_RECALL_ALL = """
SELECT key, digest, state, reruns, rows.execution_id, execution, rows.number, at
FROM rows LEFT JOIN executions ON rows.ended = executions.number WHERE """

_MOST_MARKS = 500
"""Parameters of one statement: SQLite was long built for 999 at most."""


class Journal:
    """One open journal, which nobody else can open.

    Raises `JournalError` when it is another batch's, in use, or cannot be written.

    Attributes:
        token: a random text of the batch, from which the idempotency keys of its starts come;
            what is given is kept by a new journal.

    """

    def __init__(
        self, plan: JournalPlan, api_root: str, wall_clock: Callable[[], float], token: str
    ) -> None:
        self._path: str = os.path.abspath(os.fspath(plan.path))
        self._wall_clock = wall_clock
        self.token = token
        self._process = ForkGuard()
        self._turn = threading.Lock()
        self._durable: Optional[bool] = None
        self._closed = False
        with self._told():
            self._lock = _locked(f"{self._path}.lock")
        try:
            with self._told():
                self._open(plan, api_root)
        except BaseException:
            os.close(self._lock)
            raise

    def refuse_fork(self) -> None:
        """Raise `JournalError` in a child after `os.fork`: its parent goes on with the batch."""
        if self._process.forked:
            raise self._error("is the parent process's, which goes on with it", "journal_busy")

    def keep(self, record: Record) -> Recalled:
        """Carry out a `Record`: all of it is in the file when this returns, or nothing is."""
        with self._turn, self._told():
            if record.rows or record.anchor:
                self._write(record)
            return self._recall(record)

    def close(self, last: Optional[Record] = None) -> None:
        """Record what is left to record, if possible, and release the file.

        Closing twice is harmless.
        """
        with self._turn:
            if self._closed or self._process.forked:
                return
            self._closed = True
            with suppress(JournalError), self._told():
                try:
                    if last is not None and last.rows:
                        self._write(last)
                finally:
                    self._db.close()
            os.close(self._lock)

    # Opening

    def _open(self, plan: JournalPlan, api_root: str) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with suppress(PermissionError):  # where it is another user's
            os.chmod(self._path, 0o600)
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            ours = self._db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
            empty = self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
            if not ours and not empty:
                raise self._error("is no journal: an SQLite file of something else")
            damage = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if damage != ("ok",):
                raise self._error(f"is damaged: {damage[0]}")
            if self._db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise self._error("is on a file system that cannot hold one")
            self._db.execute("PRAGMA fullfsync = ON")  # for macOS
            if empty:
                self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT")
            self._read_header(plan, api_root)
        except BaseException:
            self._db.close()
            raise

    def _read_header(self, plan: JournalPlan, api_root: str) -> None:
        header: Dict[str, Any] = dict(self._db.execute("SELECT name, value FROM header"))
        batch = {
            "API root": api_root,
            "workflow": plan.workflow_id,
            "rows": "known by their index" if plan.key is None else "known by a key",
        }
        for name, value in batch.items():
            if header.get(name, value) != value:
                raise self._error(
                    f"belongs to another batch: its {name}: {header[name]}, not {value}",
                    "journal_mismatch",
                )
        if not header:
            header = {**batch, "token": self.token, "began_at": self._wall_clock()}
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT INTO header VALUES (?, ?)", header.items())
        self.token = header["token"]
        self._began_at: float = header["began_at"]
        self._anchor: Optional[str] = header.get("anchor")
        count = "count(*)" if plan.key is not None else "coalesce(max(key) + 1, 0)"
        (self._known,) = self._db.execute(f"SELECT {count} FROM rows").fetchone()  # noqa: S608
        (self._number,) = self._db.execute("SELECT coalesce(max(number), 0) FROM rows").fetchone()

    # Writing

    def _write(self, record: Record) -> None:
        if record.durable is not self._durable:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if record.durable else 'NORMAL'}")
            self._durable = record.durable
        rows = record.rows
        with self._db:  # which commits, or takes all of it back
            if len(rows) != 1 or rows[0].state != "started":  # that is one statement
                self._db.execute("BEGIN IMMEDIATE")
            for row in rows:
                self._put(row)
            if record.anchor is not None:
                self._anchor = record.anchor
                self._db.execute("INSERT INTO header VALUES ('anchor', ?)", (record.anchor,))

    def _put(self, row: JournalRow) -> None:
        if row.state == "starting":
            self._number += 1
            if row.reruns:  # else it had no execution
                self._forget(row)
            self._db.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, 1, ?, ?, ?, NULL, NULL)",
                (row.key, row.digest, row.reruns, self._number, self._wall_clock()),
            )
        elif row.state == "ended":
            written = "INSERT INTO executions (execution) VALUES (?)"
            ended = self._db.execute(written, (_encoded(row.execution),)).lastrowid
            self._db.execute("UPDATE rows SET state = 3, ended = ? WHERE key = ?", (ended, row.key))
        else:
            if row.state == "open":
                self._forget(row)
            self._db.execute(
                "UPDATE rows SET state = ?, execution_id = ? WHERE key = ?",
                (_STATES.index(row.state), row.execution_id, row.key),
            )

    def _forget(self, row: JournalRow) -> None:
        """The execution that the row had is its no more, but stays known."""
        self._db.execute(
            "INSERT OR IGNORE INTO past SELECT execution_id, number FROM rows "
            "WHERE key = ? AND execution_id IS NOT NULL",
            (row.key,),
        )
        old = "SELECT ended FROM rows WHERE key = ? AND ended IS NOT NULL"
        self._db.execute(f"DELETE FROM executions WHERE number IN ({old})", (row.key,))  # noqa: S608

    # Reading

    def _recall(self, record: Record) -> Recalled:
        now = self._wall_clock()
        if not (record.keys or record.execution_ids):
            return Recalled((), self._known, self._anchor, max(now - self._began_at, 0.0))
        found: List[Tuple[Any, ...]] = []
        recall, ids = _RECALL if record.brief else _RECALL_ALL, record.execution_ids
        for at in range(0, len(record.keys), _MOST_MARKS):
            keys = record.keys[at : at + _MOST_MARKS]
            first = keys[0]
            if isinstance(first, int) and keys == tuple(range(first, first + len(keys))):
                found += self._db.execute(recall + "key BETWEEN ? AND ?", (first, keys[-1]))
            else:
                found += self._db.execute(f"{recall} key IN ({_marks(keys)})", keys)
        if ids:
            found += self._db.execute(f"{_RECALL} execution_id IN ({_marks(ids)})", ids)
            found += self._db.execute(
                "SELECT NULL, NULL, 0, 0, execution_id, NULL, number, 0 FROM past "  # noqa: S608
                f"WHERE execution_id IN ({_marks(ids)})",
                ids,
            )
        rows = (
            JournalRow(
                key,
                digest,
                _STATES[state],  # type: ignore[arg-type]
                reruns,
                execution_id,
                None if execution is None else json.loads(execution),
                number,
                max(now - at, 0.0),
            )
            for key, digest, state, reruns, execution_id, execution, number, at in found
        )
        return Recalled(tuple(rows), self._known, self._anchor, max(now - self._began_at, 0.0))

    # All of it

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        """What goes wrong is told with the name of the file."""
        try:
            yield
        except BlockingIOError as error:
            raise self._error("is in use by another batch", "journal_busy") from error
        except (OSError, sqlite3.Error) as error:
            raise self._error(f"cannot be used: {error}") from error
        except json.JSONDecodeError as error:
            raise self._error(f"is damaged: no JSON in it: {error.msg}") from None

    def _error(self, what: str, code: str = "journal_unusable") -> JournalError:
        return JournalError(f"The journal {self._path} {what}", code)


def _marks(values: Tuple[Any, ...]) -> str:
    return ",".join("?" * len(values))


def _encoded(execution: Any) -> str:
    text = json.dumps(execution, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(execution, separators=(",", ":"))
    return text


def _locked(path: str) -> int:
    """The descriptor of a file that this process alone has locked; `BlockingIOError` if not."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise BlockingIOError(*error.args) from error
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock
