"""The lock files of journals and checkpoints. Touches the disk."""

from __future__ import annotations

import os
import sys
from io import FileIO


def open_file(path: str) -> FileIO:
    """Open a file for reading and writing; create it if there is none.

    A file object, not a bare descriptor: one that an exception from a signal handler drops is
    closed, and so unlocked.
    """
    return FileIO(path, "r+", opener=lambda name, mode: os.open(name, mode | os.O_CREAT, 0o600))


def open_lock_file(path: str) -> FileIO:
    """Return the lock file, locked by this process alone; raise `BlockingIOError` if it is not.

    Somebody may have removed it between opening and locking it. The next batch then makes and
    locks another one, so the locked file must be the one that has the name now.
    """
    while True:
        lock = open_file(path)
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
            if is_named(lock, path):
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()


def is_named(file: FileIO, path: str) -> bool:
    """Return whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
