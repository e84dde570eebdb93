"""The journal of a batch: an SQLite file, and a lock file beside it.

Touches the disk, in the thread that calls it. A state that is `starting` survives a power loss;
every state survives the end of the process.
While a batch runs, the journal is up to three files that belong together: the file itself, `-wal`
and `-shm`. Other programs may read the journal. The lock file stays when the batch is closed.

The format is frozen with version 1.0.0 of the SDK. Each row of each table has a checksum, because
SQLite finds a damaged page only if its structure is wrong: a changed digit in an output would be
replayed as if the server had sent it. The checksums find damage in every row that SQLite returns.
They cannot find rows that SQLite ignores: if a killed process has left a `-wal` file, SQLite checks
each frame of it, and ignores a damaged frame and all frames after it.

A `-wal` file that is lost would go unnoticed: SQLite takes what the file itself holds for all. So
the file has a mark, in SQLite's `user_version`, that `_checkpoint` writes.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import sqlite3
import stat
import struct
import sys
import threading
import zlib
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from io import FileIO
from typing import Any, Callable, Dict, Generator, List, Optional, Sequence, Tuple

from flowmaestro_core.actions import Save
from flowmaestro_core.errors import CheckpointConflict, JournalError
from flowmaestro_core.store import HEADER_KEY, MAX_OUTCOMES_SIZE, VERSION
from flowmaestro_transports.primitives.file_lock import is_named, open_file, open_lock_file
from flowmaestro_transports.primitives.fork_guard import ForkGuard

_APPLICATION = b"FMJ"
_FORMAT = 5
"""The format of this journal. Formats 1 to 4 were those of development versions."""
_SCHEMA = (
    "CREATE TABLE header (serial INTEGER, state TEXT, checksum INTEGER)",
    """CREATE TABLE rows (
    key TEXT PRIMARY KEY, -- the row's index, or what `key=` returns for it
    digest BLOB,          -- of its inputs
    reruns INTEGER,       -- how often `rerun=` or `redo=` has started it again
    start INTEGER,        -- the number of its start, in the order of the starts; NULL: none
    refusal BLOB,         -- digest of a server error that was shown to start nothing; or empty
    checksum INTEGER
) WITHOUT ROWID""",
    "CREATE TABLE started (start INTEGER PRIMARY KEY, execution_id TEXT, checksum INTEGER)",
    "CREATE TABLE ended (start INTEGER PRIMARY KEY, execution TEXT, checksum INTEGER)",
)
_LOAD, _LOAD_OUTCOMES = (
    f"""
SELECT key, digest, coalesce(start, 0), reruns, refusal, execution_id,
    CASE WHEN start IS NULL THEN 'open' WHEN execution_id IS NULL THEN 'starting'
    WHEN ended.start IS NULL THEN 'started' ELSE 'ended' END, {outcome}
FROM rows LEFT JOIN started USING (start) LEFT JOIN ended USING (start) WHERE key IN """  # noqa: S608
    for outcome in ("NULL, NULL", "ended.execution, ended.checksum")
)
_INSERTS = {
    # A page that does not change is not written: a `started` row is saved again when it has ended.
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({names[0]}) "  # noqa: S608
    f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names[1:])} "
    "WHERE checksum IS NOT excluded.checksum"
    for table, names in {
        "rows": ("key", "digest", "reruns", "start", "refusal", "checksum"),
        "started": ("start", "execution_id", "checksum"),
        "ended": ("start", "execution", "checksum"),
    }.items()
}
_PARTS = ("", "-wal", "-shm")
_NEEDS_WAL = 1
"""The mark of a file whose last records are in its `-wal` file."""
_WHOLE_WITH_WAL = 2
"""The mark that is written to the `-wal` file before its first record."""
_PAGES = 1000
"""About so many pages of 4 KiB are in the `-wal` file at most, as by SQLite's own default."""
_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""Made once: `json.dumps` would make one for each execution."""
_LOST = "a new journal, or an older copy, would start rows again"
_CLOSED_AT_EXIT: List[FileIO] = []
"""Files of journals that another batch of this process had locked: see `_lock_journal`."""


class Journal:
    """An open journal, locked against every other batch: a store (`flowmaestro_core/store.py`).

    Raises `JournalError`: code `journal_busy` if another batch may be using it, `journal_unusable`
    for any other reason, such as damage or another format.
    """

    def __init__(self, path: str) -> None:
        self._name = os.path.abspath(path)
        # All names of one file lead to one lock and to one `-wal` file.
        self._path = os.path.realpath(path)
        self._process = ForkGuard()
        self._lock = threading.Lock()
        self._durable: Optional[bool] = None
        self._pages = 0
        self._held: Dict[str, Tuple[Any, ...]] = {}
        """What the file has of the rows that were announced and have not ended, by their keys. The
        next state of such a row repeats most of it, which need not be written again."""
        with self._journal_errors(), ExitStack() as opened:
            opened.callback(open_lock_file(f"{self._path}.lock").close)
            file = self._open_file()
            opened.callback(file.close)
            opened.callback(_unlocker_of(file))
            # SQLite creates an empty one when it opens the file.
            self._has_wal = _size_of(f"{self._path}-wal") > 0
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            opened.callback(self._db.close)
            self._check_file()
            self._check_rows()
            self._checkpoint()
            self._opened = opened.pop_all()

    def check_process(self) -> None:
        """Raise `JournalError` in a child process after `os.fork`: the parent has the batch."""
        if self._process.forked:
            raise self._error(
                "is in use by the parent process, which continues the batch", "journal_busy"
            )

    def load(self, keys: Sequence[str], outcomes: bool) -> List[Dict[str, Any]]:
        """Return the states under `keys`: see `Store.load`.

        Raises `JournalError` if the file cannot be used, and in a child process (`check_process`).
        """
        self.check_process()
        with self._lock, self._journal_errors():
            states: List[Dict[str, Any]] = []
            if HEADER_KEY in keys:
                for text, checksum in self._db.execute("SELECT state, checksum FROM header"):
                    if checksum != _checksum(text):
                        raise self._damage("the header")
                    states.append(json.loads(text))
            states += self._rows(keys, outcomes)
            return states

    def save(self, states: List[Dict[str, Any]]) -> None:
        """Write all `states`, or none: see `Store.save`.

        Raises `CheckpointConflict`, and the errors of `load`.
        """
        self.check_process()
        with self._lock, self._journal_errors():
            self._write(states)

    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        """Return the numbers of the starts of these executions: see `Store.known`.

        Raises the errors of `load`.
        """
        self.check_process()
        with self._lock, self._journal_errors():
            marks = _marks(execution_ids)
            starts = f"SELECT execution_id, start FROM started WHERE execution_id IN ({marks})"  # noqa: S608
            return dict(self._db.execute(starts, tuple(execution_ids)))

    def close(self, last: Optional[Save] = None) -> None:
        """Write the states of `last`, close the file and release its locks. May be called twice.

        If they cannot be written, no error is raised. In a child process after `os.fork`, this does
        nothing.
        """
        if self._process.forked:
            return
        refused = suppress(JournalError, CheckpointConflict)
        with self._lock, refused, self._journal_errors(), self._opened:
            if last is not None:
                self._write(last.states)

    def _open_file(self) -> FileIO:
        """Create the file if there is none, lock it if possible, and return it.

        See `_lock_journal`.
        """
        # The links are counted first: the other batch may be of this process, and to close any
        # descriptor of its file would give up all locks that SQLite holds on it.
        with suppress(FileNotFoundError):
            status = os.stat(self._path)
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                # SQLite names the `-wal` file after the link that was opened, so two links of one
                # file are two databases that overwrite each other.
                raise self._error(
                    "has a second name (a hard link), under which another batch may use it; "
                    "remove that name",
                    "journal_busy",
                )
        file = open_file(self._path)
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise self._error("is not a regular file")
            _lock_journal(file, self._path)
        except BaseException:
            if file not in _CLOSED_AT_EXIT:
                file.close()
            raise
        return file

    def _check_file(self) -> None:
        schema = tuple(sql for (sql,) in self._db.execute("SELECT sql FROM sqlite_master"))
        (application_id,) = self._db.execute("PRAGMA application_id").fetchone()
        ours = _APPLICATION + str(_FORMAT).encode()
        found = application_id.to_bytes(4, "big", signed=True)
        if found != ours and schema:
            if found[:3] == _APPLICATION:
                raise self._error(
                    f"has format {found[3:].decode('ascii', 'replace')}, and this version of the "
                    f"SDK reads format {_FORMAT}; finish it with the version that wrote it"
                )
            raise self._error("is not a journal")
        if schema not in ((), _SCHEMA):
            raise self._damage("the schema")
        (mark,) = self._db.execute("PRAGMA user_version").fetchone()
        if mark == _NEEDS_WAL and not self._has_wal:
            raise self._error(
                f"has lost its last records: {self._path}-wal is missing, as after the file was "
                f"mounted by itself; put that file back. Otherwise {_LOST}"
            )
        for part in _PARTS:
            with suppress(FileNotFoundError, PermissionError):  # It may belong to another user.
                os.chmod(self._path + part, 0o600)
        (damage,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if damage != "ok":
            raise self._damage(damage)
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise self._error("is on a file system that cannot hold one; move it to a local disk")
        self._db.execute("PRAGMA fullfsync = ON")  # For macOS: `fsync` alone stops at the disk.
        # SQLite would write pages to the file without the mark.
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        if not schema:
            identified = f"PRAGMA application_id = {int.from_bytes(ours, 'big')}"
            self._db.executescript("; ".join(("BEGIN", identified, *_SCHEMA, "COMMIT")))

    def _check_rows(self) -> None:
        """Check all rows and starts. Raises `JournalError` if one is damaged.

        A row whose key is damaged would not be found later, and would be started twice. So all rows
        and starts are checked now. Of executions, only whether each one is not null and belongs to
        a start is checked now. Their contents are checked when they are read.
        """
        has_rows = False
        for *values, checksum in self._db.execute("SELECT * FROM rows"):
            has_rows = True
            if checksum != _checksum(*values):
                raise self._damage("a row")
        for *values, checksum in self._db.execute("SELECT * FROM started"):
            if checksum != _checksum(*values):
                raise self._damage("a start")
        if self._db.execute(
            "SELECT 1 FROM ended"
            " WHERE execution IS NULL OR start NOT IN (SELECT start FROM started)"
        ).fetchone():
            raise self._damage("an execution that is empty or has no start")
        if has_rows and not self._db.execute("SELECT 1 FROM header").fetchone():
            raise self._damage("the header")

    def _checkpoint(self) -> None:
        """Copy the pages of the `-wal` file to the file, so that it shows if it loses that file.

        From now on, the file has the mark `_NEEDS_WAL`, and the `-wal` file the other mark. If the
        process is killed, and another program reads the journal, SQLite copies all pages and
        removes the `-wal` file: then the file has the other mark, too. So a file with the mark
        `_NEEDS_WAL` and without a `-wal` file has lost it.

        The `-wal` file is not truncated: if the process is killed before the other mark is written,
        a `-wal` file that is not empty shows that nothing was lost. If another program reads an
        older state of the journal meanwhile, not all pages are copied. A loss may go unnoticed
        then, until the next call of this function.
        """
        self._pages = 0
        last = f"PRAGMA user_version = {_WHOLE_WITH_WAL}"
        try:
            # One call, because no exception from a signal handler can interrupt it: the file would
            # be closed with the mark `_NEEDS_WAL`, and seem to have lost records. The timeout is
            # for a program that reads: it must not hold up the batch.
            self._db.executescript(f"""
                PRAGMA user_version = {_NEEDS_WAL};
                PRAGMA busy_timeout = 100;
                PRAGMA wal_checkpoint(FULL);
                PRAGMA busy_timeout = 5000;
                {last};
            """)
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._db.execute(last)
            raise

    def _rows(self, keys: Sequence[str], outcomes: bool) -> List[Dict[str, Any]]:
        """Return the states of the rows under `keys`, with their outcomes if `outcomes` is true.

        Once `MAX_OUTCOMES_SIZE` is reached, the other rows are fetched without their outcomes: 256
        of them may be larger than the memory.
        """
        states: List[Dict[str, Any]] = []
        size = 0
        load = _LOAD_OUTCOMES if outcomes else _LOAD
        with closing(self._db.execute(f"{load} ({_marks(keys)})", tuple(keys))) as found:
            for key, digest, number, reruns, refusal, execution_id, state, text, checksum in found:
                made: Dict[str, Any] = {
                    "key": key,
                    "v": VERSION,
                    "state": state,
                    "digest": digest.hex(),
                    "number": number,
                    "reruns": reruns,
                    "refusal": refusal.hex(),
                    "execution_id": execution_id,
                }
                if text is not None:
                    if checksum != _checksum(number, text):
                        raise self._damage("an execution")
                    size += len(text)
                    made["outcome"] = json.loads(text)
                states.append(made)
                if size >= MAX_OUTCOMES_SIZE:
                    break
            else:
                return states
        loaded = {made["key"] for made in states}
        return states + self._rows([key for key in keys if key not in loaded], False)

    def _write(self, states: Sequence[Dict[str, Any]]) -> None:
        header, *rows = states
        durable = any(row["state"] == "starting" for row in rows)
        if durable is not self._durable:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        try:
            with self._db:  # Commits, or rolls back if an exception is raised.
                self._db.execute("BEGIN IMMEDIATE")
                self._put_header(header)
                for row in rows:
                    self._put(row)
        except BaseException:
            self._held.clear()
            raise
        self._pages += 1  # That of the header.
        if self._pages >= _PAGES:
            self._checkpoint()

    def _put_header(self, header: Dict[str, Any]) -> None:
        serial, text = header["serial"], json.dumps(header)
        values: Tuple[Any, ...] = (serial, text, _checksum(text))
        if serial == 1:
            change = "INSERT INTO header SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM header)"
        else:
            change = "UPDATE header SET serial = ?, state = ?, checksum = ? WHERE serial = ?"
            values = (*values, serial - 1)
        if self._db.execute(change, values).rowcount == 0:
            raise CheckpointConflict

    def _put(self, row: Dict[str, Any]) -> None:
        key, execution_id = row["key"], row["execution_id"]
        number = None if row["state"] == "open" else row["number"]
        of_row = (row["digest"], row["reruns"], number, row["refusal"])
        held = self._held.pop(key, ((), None))
        if held[0] != of_row:
            digest, refusal = map(bytes.fromhex, (row["digest"], row["refusal"]))
            self._insert("rows", key, digest, row["reruns"], number, refusal)
        if execution_id is not None and held != (of_row, execution_id):
            self._insert("started", number, execution_id)
        if "outcome" in row:
            outcome = _encoded(row["outcome"])
            self._pages += len(outcome) // 4096
            self._insert("ended", number, outcome)
        elif number is not None:
            self._held[key] = (of_row, execution_id)

    def _insert(self, table: str, *values: Any) -> None:
        self._pages += 1  # As a rule: many rows share a page, and now and then a page is split.
        self._db.execute(_INSERTS[table], (*values, _checksum(*values)))

    @contextmanager
    def _journal_errors(self) -> Generator[None, None, None]:
        """Turn errors of the disk and of SQLite into a `JournalError` that names the file."""
        try:
            yield
        except BlockingIOError as error:
            raise self._error("is in use by another batch", "journal_busy") from error
        except UnicodeDecodeError:  # The sqlite3 module decodes the names in its errors.
            raise self._damage("a text in it is not UTF-8") from None
        except (OSError, sqlite3.Error) as error:
            said = f"cannot be used: {_one_line(error)}"
            if "Could not decode" in said:  # The error quotes the damaged text.
                raise self._damage("a text in it is not UTF-8") from None
            if "malformed" in said:
                raise self._damage(error) from error
            if "not a database" in said:
                raise self._error(f"is not a journal: {_one_line(error)}") from error
            full = "is full" in said or getattr(error, "errno", None) in _NO_ROOM
            remedy = "make room" if full else "mend that"
            raise self._error(f"{said}; {remedy}, and make the same call again") from error

    def _damage(self, what: object) -> JournalError:
        return self._error(f"is damaged: {_one_line(what)}; {_LOST}")

    def _error(self, what: str, code: str = "journal_unusable") -> JournalError:
        return JournalError(f"The journal {self._name} {what}", code)


def _checksum(*values: Any) -> int:
    """Return a CRC-32 of values of SQLite. It misses one change in 2**32.

    `ascii` returns the same text for a value in every version of Python, and different texts for
    `5` and `'5'`.
    """
    return zlib.crc32(ascii(values).encode())


def _one_line(what: object) -> str:
    """Return `what` on one printable line of at most 200 characters, for an error message.

    The text may quote damaged bytes of the file.
    """
    printable = (char if char.isprintable() else " " for char in str(what))
    return " ".join("".join(printable).split())[:200]


def _size_of(path: str) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _encoded(execution: Any) -> str:
    text = _JSON.encode(execution)
    try:
        text.encode()
    except UnicodeEncodeError:  # UTF-8 cannot express a lone surrogate, so escape it.
        return json.dumps(execution, separators=(",", ":"))
    return text


def _lock_journal(file: FileIO, path: str) -> None:
    """Lock the journal itself, on Linux only, and only where the file system has such locks.

    Raises `BlockingIOError` if it is locked already, or was replaced meanwhile.

    The lock file alone does not keep a second batch out if somebody removes it. On Linux, an open
    file description can lock one byte, far behind the bytes that SQLite locks. Other systems have
    no lock that does not disturb SQLite's own.
    """
    if sys.platform != "linux":
        return
    import fcntl

    command: Optional[int] = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        return
    try:
        fcntl.fcntl(file, command, _one_byte(fcntl.F_WRLCK))
    except BlockingIOError:
        # A batch of this process may have locked it. To close any descriptor of a file gives up
        # all locks that SQLite holds on it in this process, so this one stays open until exit.
        _CLOSED_AT_EXIT.append(file)
        atexit.register(file.close)
        raise
    except OSError:
        return  # The file system has no such locks. The lock file is locked.
    if not is_named(file, path):
        raise BlockingIOError("the file was replaced while it was being opened")


def _unlocker_of(file: FileIO) -> Callable[[], None]:
    """Return a function that undoes `_lock_journal`.

    Closing the file does not unlock it while a forked child has a copy: `LockableFile.close` undoes
    only `flock`, and this lock is of another kind. The function imports nothing, because it may be
    called when the interpreter ends.
    """
    control: Any = None
    if sys.platform == "linux":
        import fcntl

        command: Optional[int] = getattr(fcntl, "F_OFD_SETLK", None)
        if command is not None:
            control = partial(fcntl.fcntl, file, command, _one_byte(fcntl.F_UNLCK))

    def unlock() -> None:
        try:
            if control is not None:
                control()
        except OSError:  # The file system has no such locks.
            pass

    return unlock


def _one_byte(kind: int) -> bytes:
    """Return a lock of this kind, as `fcntl` takes it, of one byte far behind those of SQLite."""
    return struct.pack("hhqqi", kind, os.SEEK_SET, 1 << 62, 1, 0)
