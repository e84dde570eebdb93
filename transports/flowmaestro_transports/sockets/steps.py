"""What a thread waits for, and how another thread wakes it.

Each wait of `SocketTransport` is one `poll`, for sockets and for a *waker*: a pair of sockets that
another thread writes to. So a wait can be cut short wherever it is, and nothing but the lookup of
a name blocks in any other way. May touch: sockets, the monotonic clock.
"""

from __future__ import annotations

import math
import select
import socket
import time
from contextlib import suppress
from typing import List, Sequence, TypeVar

from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.round_trip import AttemptDeadline
from flowmaestro_transports.http11.wire import Steps, Want

T = TypeVar("T")

LOOK_AGAIN = 0.5
"""Seconds after which a waiting step looks by itself, should nobody have woken it."""
_LONGEST = 1e6
"""Seconds: the longest wait that `poll` takes on every platform."""


class StepCut(Exception):
    """Raised in a thread whose step another thread has cut short."""


class TimeUp(Exception):
    """Raised in a thread whose deadline has passed."""


class Waker:
    """Wakes the one thread that polls it. A thread must bear being woken for nothing."""

    def __init__(self) -> None:
        self.ear, self._mouth = socket.socketpair()
        self.ear.setblocking(False)
        self._mouth.setblocking(False)

    def wake(self) -> None:
        """Wake the thread that polls it, now or next."""
        with suppress(OSError):  # it is full: that wakes as well
            self._mouth.send(b"!")

    def heard(self) -> None:
        """Be quiet until the next `wake`."""
        with suppress(OSError):
            while self.ear.recv(1024):
                pass

    def __del__(self) -> None:
        for sock in vars(self).values():  # an interruption may have come before there were any
            sock.close()


class Step:
    """One blocking operation of a thread: a call, a pause or a read.

    It owns its resources (`Owned`), so an exception from a signal handler loses none of them.

    Attributes:
        free_wakers: those of the process that it is in, which it may take one of.
        slot: its place among the calls that may be under way at once.

    """

    __slots__ = ("_waker", "free_wakers", "slot", "was_cut")

    def __init__(self) -> None:
        self.was_cut = False
        """Whether it was cut short. That is final, and true of whatever is begun later."""
        self.slot: Owned[None] = Owned()
        self.free_wakers: Owned[Waker] = Owned()
        self._waker: Owned[Waker] = Owned()

    def cut(self) -> None:
        """Wake the thread that is at it, which then stops. Any thread may call it."""
        self.was_cut = True
        self.wake()

    def wake(self) -> None:
        """Have the thread look around. Any thread may call it."""
        for waker in self._waker[:1]:
            waker.wake()

    def get_ready_to_wait(self) -> None:
        """From now on `wake` is heard, at the next wait or in it."""
        if not self._waker and not self.free_wakers.move_to(self._waker):
            with suppress(OSError):  # no file is left for one: `wait` looks by itself
                self._waker.append(Waker())

    def carry_out(self, steps: Steps[T], deadline: AttemptDeadline) -> T:
        """Carry out steps, waiting as they say; what they return. Raises `StepCut`, `TimeUp`."""
        try:
            while True:
                want, socks, seconds = next(steps)
                until = deadline.at
                if seconds != math.inf:
                    until = min(until, time.monotonic() + seconds)
                if not self.wait(until, socks, want) and until == deadline.at:
                    raise TimeUp
        except StopIteration as end:
            result: T = end.value
            return result

    def wait(
        self, until: float, socks: Sequence[socket.socket] = (), want: Want = Want.READABLE
    ) -> bool:
        """Wait for one of the sockets, or to be woken; False at the time `until`.

        Raises `StepCut`.
        """
        self.get_ready_to_wait()
        if self.was_cut:  # only now: a cut after this look wakes the poll
            raise StepCut
        seconds = until - time.monotonic()
        if seconds <= 0:
            return False
        ears = [waker.ear for waker in self._waker]
        ready = _ready(ears, socks, want, min(seconds, _LONGEST if ears else LOOK_AGAIN))
        if ears and ears[0].fileno() in ready:
            self._waker[0].heard()  # in no variable, which a `StepCut` would keep
        if self.was_cut:
            raise StepCut
        return bool(ready) or not ears

    def let_go_of_waker(self) -> None:
        """It waits no more, for now."""
        self._waker.move_to(self.free_wakers)


def _ready(
    ears: Sequence[socket.socket], socks: Sequence[socket.socket], want: Want, seconds: float
) -> List[int]:
    # Looked up with each call, so that a patched one counts: gevent replaces `poll`, eventlet
    # removes it. Windows has none.
    make = getattr(select, "poll", None)
    if make is None:
        reading = ears if want is Want.WRITABLE else [*ears, *socks]
        writing: Sequence[socket.socket] = () if want is Want.READABLE else socks
        ready = select.select(reading, writing, writing, seconds)
        return [sock.fileno() for sock in {*ready[0], *ready[1], *ready[2]}]
    poll = make()
    for ear in ears:
        poll.register(ear, select.POLLIN)
    events = select.POLLIN if want is not Want.WRITABLE else 0
    if want is not Want.READABLE:
        events |= select.POLLOUT
    for sock in socks:
        poll.register(sock, events)
    return [number for number, _ in poll.poll(math.ceil(seconds * 1000))]
