"""The lock files of journals and checkpoints. Touches the disk."""

from __future__ import annotations

import os
import sys
from io import FileIO


def open_file(path: str) -> FileIO:
    """Open a file for reading and writing; create it if there is none.

    The result is a file object, not a bare descriptor. If an exception from a signal handler loses
    it, the garbage collector closes it, which unlocks the file.
    """
    return FileIO(path, "r+", opener=lambda name, mode: os.open(name, mode | os.O_CREAT, 0o600))


def open_lock_file(path: str) -> FileIO:
    """Open and lock the file at `path`.

    Raises `BlockingIOError` if it is locked already, and another `OSError` if it cannot be opened.

    Another process may remove the file between the opening and the locking. The next batch would
    then create and lock a new file. So the locked file must be the one that `path` names now; if it
    is not, this starts over.
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
