"""Waiting in a thread, and waking it from another thread.

Each wait of `SocketTransport` is a `poll`, or a `select` where there is no `poll`. It waits for
sockets and for a *waker*: a pair of sockets that another thread writes to. So any wait can be
interrupted, and only the resolution of a name blocks in another way. May touch: sockets, the
monotonic clock.
"""

from __future__ import annotations

import math
import select
import socket
import time
from contextlib import suppress
from typing import List, Optional, Sequence, TypeVar

from flowmaestro_transports.http11.round_trip import AttemptDeadline, LastLook
from flowmaestro_transports.http11.wire import IOSteps, Readiness
from flowmaestro_transports.primitives.slots import RECHECK_INTERVAL

T = TypeVar("T")

_LONGEST = 1e6
"""Seconds: the longest timeout that `poll` accepts on every platform."""


class Interrupted(Exception):
    """`interrupt` was called on the operation of this thread."""


class DeadlineExceeded(Exception):
    """The deadline of the operation has passed."""


class Waker:
    """Wakes the one thread that polls `read_end`.

    A thread may be woken without a reason: the waker may still hold a wake-up for the operation
    that used it before.
    """

    def __init__(self) -> None:
        self.read_end: socket.socket
        self.read_end, self._write_end = socket.socketpair()
        self.read_end.setblocking(False)
        self._write_end.setblocking(False)

    def wake(self) -> None:
        """Wake the thread that polls `read_end`. If none does, the next poll returns at once."""
        with suppress(OSError):  # If its buffer is full, it is readable, and wakes as well.
            self._write_end.send(b"!")

    def drain(self) -> None:
        """Drain the wake-up bytes, so that `poll` blocks again until the next `wake`."""
        with suppress(OSError):
            while self.read_end.recv(1024):
                pass

    def __del__(self) -> None:
        # By `vars`, because an interrupt of `__init__` may have left no attribute.
        for sock in vars(self).values():
            sock.close()


class BlockingOp:
    """A blocking operation of a thread: a call, a pause or a read.

    A body has one `BlockingOp` for all its reads, a stream has one for all its calls and pauses.
    """

    __slots__ = ("_waker", "free_wakers", "interrupted", "wait_failed")

    def __init__(self) -> None:
        self.interrupted: bool = False
        """Whether `interrupt` was called. It stays True, so that later operations are interrupted,
        too."""
        self.wait_failed: bool = False
        """Whether a wait has raised an `OSError`. Failures of the network show when a socket is
        used, not in `poll`, so a signal handler has raised it: a `TimeoutError`, for example."""
        self.free_wakers: List[Waker] = []
        """The unused wakers of its pool. It takes one of them, if there is one, before it waits."""
        self._waker: Optional[Waker] = None  # The waker that it took.

    def interrupt(self) -> None:
        """Make the current `wait`, if any, and every later one raise `Interrupted`.

        Any thread may call this.
        """
        self.interrupted = True
        self.wake()

    def wake(self) -> None:
        """Wake the thread of this operation, if it waits. Any thread may call this."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def acquire_waker(self) -> None:
        """Take a free waker, or make one if that is possible, unless the operation has one.

        If the operation then has a waker, a `wake` after this ends the next `wait`.
        """
        if self._waker is not None:
            return
        try:
            self._waker = self.free_wakers.pop()
        except IndexError:
            # If the process has no file descriptor left, `wait` checks every `RECHECK_INTERVAL`.
            with suppress(OSError):
                self._waker = Waker()

    def carry_out(self, steps: IOSteps[T], deadline: AttemptDeadline) -> T:
        """Carry out `steps`, wait as they say, and return their result.

        After the deadline, the steps go on with what has arrived already (`LastLook`). Raises
        `Interrupted` if it would wait after `interrupt`, `DeadlineExceeded` if it would wait on
        after the deadline, and what the steps raise.
        """
        look: Optional[LastLook] = None  # Few operations outlast their deadline.
        try:
            while True:
                readiness, socks, seconds = next(steps)
                now, until = time.monotonic(), deadline.at
                if now >= until:
                    look = look or LastLook()
                    if readiness is not Readiness.READABLE or not look.goes_on(now):
                        raise DeadlineExceeded
                    if not socks:
                        continue
                elif seconds != math.inf:
                    until = min(until, now + seconds)
                if not self.wait(until, socks, readiness) and until == deadline.at:
                    raise DeadlineExceeded
        except StopIteration as end:
            result: T = end.value
            return result

    def wait(
        self,
        until: float,
        socks: Sequence[socket.socket] = (),
        readiness: Readiness = Readiness.READABLE,
    ) -> bool:
        """Wait until a socket is ready or `wake` is called. Return False at the time `until`.

        `until` is a time of `time.monotonic`. If it has passed, look once at the sockets, if there
        are any, without waiting: the process may have been stopped meanwhile. The wait may also end
        early, without a reason, and return True. Raises `Interrupted` if `interrupt` was called,
        before the wait or during it. Raises what a signal handler raises; if that is an `OSError`,
        `wait_failed` is then True.
        """
        if self._waker is None:
            self.acquire_waker()
        # Check after acquiring the waker: an interrupt after this line wakes the poll.
        if self.interrupted:
            raise Interrupted
        seconds = max(until - time.monotonic(), 0.0)
        if not seconds and not socks:
            return False
        read_ends = [] if self._waker is None else [self._waker.read_end]
        longest = _LONGEST if read_ends else RECHECK_INTERVAL
        try:
            ready = _ready(read_ends, socks, readiness, min(seconds, longest))
        except OSError:
            self.wait_failed = True
            raise
        # Not through a variable: the traceback of `Interrupted` would keep the waker alive.
        if self._waker is not None and self._waker.read_end.fileno() in ready:
            self._waker.drain()
        if self.interrupted:
            raise Interrupted
        return bool(ready) or longest < seconds

    def return_waker(self) -> None:
        """Return the waker to the free ones, for other operations."""
        waker, self._waker = self._waker, None
        if waker is not None:
            self.free_wakers.append(waker)


def _ready(
    read_ends: Sequence[socket.socket],
    socks: Sequence[socket.socket],
    readiness: Readiness,
    seconds: float,
) -> List[int]:
    """Wait for at most `seconds`. Return the file descriptors that are ready.

    They are those of `read_ends` that have data, and those of `socks` that have the `readiness` or
    an error. Return `[]` if there are none in this time.
    """
    # Looked up with each call, so that a patched one counts: gevent replaces `poll`, eventlet
    # removes it. Windows has none.
    make = getattr(select, "poll", None)
    if make is None:
        reading = read_ends if readiness is Readiness.WRITABLE else [*read_ends, *socks]
        writing: Sequence[socket.socket] = () if readiness is Readiness.READABLE else socks
        ready = select.select(reading, writing, writing, seconds)
        return [sock.fileno() for sock in {*ready[0], *ready[1], *ready[2]}]
    poll = make()
    for read_end in read_ends:
        poll.register(read_end, select.POLLIN)
    events = select.POLLIN if readiness is not Readiness.WRITABLE else 0
    if readiness is not Readiness.READABLE:
        events |= select.POLLOUT
    for sock in socks:
        poll.register(sock, events)
    return [number for number, _ in poll.poll(math.ceil(seconds * 1000))]
