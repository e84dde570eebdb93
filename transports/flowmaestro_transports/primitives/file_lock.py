"""The lock files of journals and checkpoints. Touches the disk."""

from __future__ import annotations

import os
import sys
from io import FileIO
from typing import Any

from flowmaestro_transports.primitives.fork_guard import ForkGuard


class LockableFile(FileIO):
    """A file that is open for reading and writing, and that this process may have locked.

    A child that is forked meanwhile has a copy of the descriptor. The lock would last until this
    copy is closed as well, so `close` unlocks the file first. In such a child, `close` leaves the
    lock alone.

    It is a file object, not a bare descriptor. If an exception from a signal handler loses it, the
    garbage collector closes it.
    """

    def __init__(self, path: str) -> None:
        # Set first, because a file that cannot be opened is closed, too.
        self._process = ForkGuard()
        # Imported now: when the interpreter ends, `close` can import nothing any more.
        self._fcntl: Any = None
        if sys.platform != "win32":
            import fcntl

            self._fcntl = fcntl
        super().__init__(
            path, "r+", opener=lambda name, mode: os.open(name, mode | os.O_CREAT, 0o600)
        )

    def close(self) -> None:
        """Unlock the file, and close it. In a forked child, only close it.

        Closing twice is harmless.
        """
        try:
            if self._fcntl is not None and not self.closed and not self._process.forked:
                self._fcntl.flock(self, self._fcntl.LOCK_UN)
        except OSError:  # The file system has no such locks.
            pass
        finally:
            super().close()


def open_file(path: str) -> LockableFile:
    """Open a file for reading and writing; create it if there is none."""
    return LockableFile(path)


def open_lock_file(path: str) -> LockableFile:
    """Open and lock the file at `path`. Create the file if there is none.

    Raises `BlockingIOError` if the file is locked already, and another `OSError` if it cannot be
    opened.

    Another process may remove the file between the opening and the locking. A third process would
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
