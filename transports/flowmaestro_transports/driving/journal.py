"""The journal of a batch: an SQLite file, and a lock beside it.

Touches the disk, in the thread of the driver, and reads a wall clock that it is given. A power
loss cannot undo a record of a row that is `starting`; the end of the process cannot undo anything.
While it is open the journal is up to three files that belong together (`-wal`, `-shm`), and anybody
may read it; the lock is a file of its own, that stays.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

from flowmaestro_core.actions import Record
from flowmaestro_core.errors import JournalError
from flowmaestro_core.records import JournalPlan, JournalRow, Recalled
from flowmaestro_transports.driving.fork_guard import ForkGuard

APPLICATION_ID = 0x464D4A33
"""In the header of the SQLite file: this is a journal of ours, of this format."""
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE header (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rows (
    key PRIMARY KEY,      -- the row's index, or what `key=` makes of it
    digest BLOB,          -- of its inputs
    reruns INTEGER,       -- how often it was started again on the caller's wish
    start INTEGER         -- the number of its start, in the order of the starts; NULL: none
) WITHOUT ROWID;
CREATE TABLE started (start INTEGER PRIMARY KEY, execution_id TEXT);
CREATE TABLE ended (start INTEGER PRIMARY KEY, execution TEXT);
"""
_BRIEF = """
SELECT key, digest, CASE WHEN start IS NULL THEN 'open' ELSE 'starting' END,
    reruns, coalesce(start, 0), NULL, NULL
FROM rows WHERE """
_WHOLE = """
SELECT key, digest, CASE WHEN start IS NULL THEN 'open' WHEN execution_id IS NULL THEN 'starting'
    WHEN execution IS NULL THEN 'started' ELSE 'ended' END,
    reruns, coalesce(start, 0), execution_id, execution
FROM rows LEFT JOIN started USING (start) LEFT JOIN ended USING (start) WHERE """


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
        self._path = os.path.abspath(plan.path)
        self._wall_clock = wall_clock
        self.token = token
        self._process = ForkGuard()
        self._turn = threading.Lock()
        self._durable: Optional[bool] = None
        with self._told(), ExitStack() as opened:
            opened.callback(_locked(f"{self._path}.lock").close)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            if not os.path.isfile(self._path):
                raise self._error("is no file")
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            opened.callback(self._db.close)
            self._check_file()
            self._read_header(plan, api_root)
            self._opened = opened.pop_all()

    def keep(self, record: Record) -> Recalled:
        """Carry out a `Record`: all of it is in the file when this returns, or nothing is.

        Raises `JournalError` in a child after `os.fork`: its parent goes on with the batch.
        """
        if self._process.forked:
            raise self._error("is the parent process's, which goes on with it", "journal_busy")
        with self._turn, self._told():
            if record.rows:
                self._write(record.rows)
            return self._recall(record)

    def close(self, last: Optional[Record] = None) -> None:
        """Record what is left to record, if possible, and release the file.

        Closing twice is harmless.
        """
        if self._process.forked:
            return
        with self._turn, suppress(JournalError), self._told(), self._opened:
            if last is not None and last.rows:
                self._write(last.rows)

    def _check_file(self) -> None:
        ours = self._db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        empty = self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
        if not ours and not empty:
            raise self._error("is no journal, or one of another version")
        for part in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError, PermissionError):  # where it is another user's
                os.chmod(self._path + part, 0o600)
        damage = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if damage != ("ok",):
            raise self._error(f"is damaged: {damage[0]}")
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise self._error("is on a file system that cannot hold one")
        self._db.execute("PRAGMA fullfsync = ON")  # for macOS
        if empty:
            self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT")

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
        count = "count(*)" if plan.key is not None else "coalesce(max(key) + 1, 0)"
        self._known, last = self._db.execute(
            f"SELECT {count}, coalesce(max(start), 0) FROM rows"  # noqa: S608
        ).fetchone()
        (met,) = self._db.execute("SELECT coalesce(max(start), 0) FROM started").fetchone()
        self._last_order = max(last, met)

    def _write(self, rows: Tuple[JournalRow, ...]) -> None:
        durable = any(row.state == "starting" for row in rows)
        if durable is not self._durable:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        with self._db:  # which commits, or takes all of it back
            if len(rows) > 1:
                self._db.execute("BEGIN IMMEDIATE")
            for row in rows:
                self._put(row)

    def _put(self, row: JournalRow) -> None:
        if row.state == "starting":
            self._db.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                (row.key, row.digest, row.reruns, row.order),
            )
        elif row.state == "started":
            known = (row.order, row.execution_id)
            self._db.execute("INSERT OR REPLACE INTO started VALUES (?, ?)", known)
        elif row.state == "ended":
            ended = (row.order, _encoded(row.execution))
            self._db.execute("INSERT INTO ended VALUES (?, ?)", ended)
        else:
            self._db.execute("UPDATE rows SET start = NULL WHERE key = ?", (row.key,))

    def _recall(self, record: Record) -> Recalled:
        keys, ids = record.keys, record.execution_ids
        rows: List[JournalRow] = []
        orders: Tuple[Tuple[str, int], ...] = ()
        if keys:
            which, values = f"key IN ({_marks(keys)})", keys
            if isinstance(keys[0], int):  # consecutive ones, which are read faster so
                which, values = "key BETWEEN ? AND ?", (keys[0], keys[-1])
            found = self._db.execute((_BRIEF if record.brief else _WHOLE) + which, values)
            for *known, execution in found:
                row: Any = (*known, execution and json.loads(execution))
                rows.append(JournalRow(*row))
        if ids:
            marks = _marks(ids)
            starts = f"SELECT execution_id, start FROM started WHERE execution_id IN ({marks})"  # noqa: S608
            orders = tuple(self._db.execute(starts, ids))
        age = max(self._wall_clock() - self._began_at, 0.0)
        return Recalled(tuple(rows), orders, self._known, self._last_order, age)

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        """Whatever goes wrong becomes a `JournalError` that names the file."""
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


def _locked(path: str) -> FileIO:
    """A file that this process alone has locked; `BlockingIOError` if not.

    A file object, not a bare descriptor: one that an exception from a signal handler drops is
    closed, and so unlocked.
    """
    lock = FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))
    try:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise BlockingIOError(*error.args) from error
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock
