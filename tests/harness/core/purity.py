"""Steps one whole scenario with every way out of the core barred.

A script. It ends with status 0 and prints the number of actions, or dies of `Impure`. Then each
violation is committed while the reply of a call is read; the names of those that were noticed are
printed, to show that the bars hold.
"""

from __future__ import annotations

import datetime
import os
import random
import socket
import sys
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, MutableMapping

CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")


class Impure(BaseException):
    """The core touched the world."""


armed = False


def barred(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, until the scenario begins; from then on it raises."""

    def bar(*args: Any, **kwargs: Any) -> Any:
        if armed:
            raise Impure(name)
        return original(*args, **kwargs)

    return bar


class BarredEnvironment(MutableMapping[str, str]):
    """`os.environ`, until the scenario begins."""

    def __init__(self, original: MutableMapping[str, str]) -> None:
        self._original = original

    def _open(self) -> MutableMapping[str, str]:
        if armed:
            raise Impure("os.environ")
        return self._original

    def __getitem__(self, key: str) -> str:
        return self._open()[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._open()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._open()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())


class BarredDatetime(datetime.datetime):
    """`datetime.datetime` with its three ways to the clock barred."""

    now = classmethod(barred("datetime.now", datetime.datetime.now))
    utcnow = classmethod(barred("datetime.utcnow", datetime.datetime.now))
    today = classmethod(barred("datetime.today", datetime.datetime.now))


def audit(event: str, args: Any) -> None:
    if armed and (event == "open" or event.startswith("socket.")):
        raise Impure(event)


def bar_everything() -> None:
    """Before the core is imported, so that nothing can have been taken aside."""
    sys.addaudithook(audit)
    for name in ("sleep", *CLOCKS, *(f"{clock}_ns" for clock in CLOCKS)):
        setattr(time, name, barred(f"time.{name}", getattr(time, name)))
    for name in random.__all__:
        setattr(random, name, barred(f"random.{name}", getattr(random, name)))
    os.urandom = barred("os.urandom", os.urandom)
    os.environ = BarredEnvironment(os.environ)  # type: ignore[assignment]  # noqa: B003
    threading.Thread.start = barred("Thread.start", threading.Thread.start)  # type: ignore[method-assign]
    datetime.datetime = BarredDatetime  # type: ignore[misc]


VIOLATIONS: Dict[str, Callable[[], Any]] = {
    "open": lambda: open(__file__).close(),
    "socket": lambda: socket.socket().close(),
    "gethostname": lambda: socket.gethostname(),
    "sleep": lambda: time.sleep(0),
    "urandom": lambda: os.urandom(1),
    "environ": lambda: os.environ.get("HOME"),
    "getenv": lambda: os.getenv("HOME"),
    "thread": lambda: threading.Thread(target=str).start(),
    "datetime": lambda: datetime.datetime.now(),
    **{clock: partial(lambda name: getattr(time, name)(), clock) for clock in CLOCKS},
    "time_ns": lambda: time.time_ns(),
    "random": lambda: random.random(),
    "Random": lambda: random.Random(),
    "randint": lambda: random.randint(1, 6),
    "getrandbits": lambda: random.getrandbits(8),
}


def main() -> None:
    global armed
    bar_everything()
    from tests.harness.core import purity_scenario

    noticed = []
    armed = True
    try:
        actions = purity_scenario.play(lambda: None)
        for name, violation in VIOLATIONS.items():
            try:
                purity_scenario.call(violation)
            except Impure:
                noticed.append(name)
    finally:
        armed = False
    print(actions)
    print(*noticed)


if __name__ == "__main__":
    main()
