"""SIGTERM and SIGHUP end a command as Ctrl-C does: it says what still runs. Sets handlers."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import Any, Generator

REPEATED = 1.0
"""Seconds after a signal in which others are ignored: a terminal that is closed sends SIGHUP twice,
by the kernel and by the shell, and the second must not interrupt the words about the first."""


class Stopped(KeyboardInterrupt):
    """The command is to end because of a signal.

    Attributes:
        status: the exit status: 128 and the number of the signal, as shells report it.

    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status: int = 128 + number


@contextmanager
def stopped_by_signals() -> Generator[None, None, None]:
    """Raise `Stopped` for SIGTERM and SIGHUP in a `with` block.

    A signal that is ignored stays ignored, as after `nohup`. Outside of the main thread, which has
    all signals, nothing is changed.
    """
    last = time.monotonic() - REPEATED

    def stop(number: int, _: Any) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= REPEATED:
            raise Stopped(number)

    named = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))  # Windows lacks one.
    numbers = [it for it in named if it is not None and signal.getsignal(it) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
