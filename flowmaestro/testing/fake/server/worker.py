"""A process that computes for a server: a thread that computes may keep the event loop waiting.

Python lets no other thread run during one search with a regular expression. In 1 MiB, that may take
0.1 s. So large jobs go to a process. It starts with the first of them, and ends with the server,
even one that is killed: its standard input ends then.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
from typing import Any, Callable, Optional, TypeVar, cast

SMALL_JOB = 64 * 1024
"""A job of at most so many bytes, pickled, is not worth a process: it takes some 10 ms."""

T = TypeVar("T")


class Worker:
    """Calls functions in another process, one at a time. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Return `function(*args)`, or raise what it raises.

        It is called in the process if the job is large and can be pickled, and the process runs;
        otherwise here.
        """
        try:
            job = pickle.dumps((function, args))
        except (pickle.PicklingError, TypeError, AttributeError):
            return function(*args)
        if len(job) <= SMALL_JOB:
            return function(*args)
        with self._lock:
            try:
                error, value = self._exchange(job)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._end()
                return function(*args)
        if error is not None:
            raise error
        result: T = value
        return result

    def close(self) -> None:
        """End the process. A job that it has now is computed by the thread that waits for it."""
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._end()

    def _exchange(self, job: bytes) -> Any:
        if self._process is None:
            # The file, not the module: `-m` would import from the working folder first.
            command = [sys.executable, __file__]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)  # noqa: S603
        source, sink = cast("Any", self._process.stdout), cast("Any", self._process.stdin)
        sink.write(job)
        sink.flush()
        return pickle.load(source)  # noqa: S301 - it comes from our own process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def main() -> None:
    """Carry out jobs from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this.
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            function, args = pickle.load(source)  # noqa: S301 - it comes from the server
        except EOFError:
            return
        done: Any
        try:
            done = None, function(*args)
        except Exception as error:
            done = error, None
        sink.write(pickle.dumps(done))
        sink.flush()


if __name__ == "__main__":
    main()
