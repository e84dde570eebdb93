"""How long one attempt may take, as a whole and by its phases."""

from __future__ import annotations

from functools import partial
from typing import Optional, Tuple

from flowmaestro_core.arguments import check_seconds

_set = object.__setattr__


class Timeout(float):
    """The seconds that one attempt of a call may take, with limits for its phases.

    It is a float: its value is `attempt`, the limit of the whole attempt. A transport that does not
    support phases observes `attempt` only. Immutable. Raises `ValueError` or `TypeError`, naming
    the argument, for a value that is not a positive, finite number of seconds.

    Args:
        attempt: from the beginning to the last byte of the response; of a stream, to the head. A
            retry has this time again: `call_timeout` of a client limits all attempts together.
        connect: until a connection is ready. Waiting for a free connection, name resolution,
            proxy and TLS are included. After this timeout, the request was not sent.
        head: from the ready connection until the head of the response is complete, sending
            included. After this timeout, the server may have acted. A transport that does not know
            when the connection is ready counts from the end of `connect`; if that is `None`, from
            the beginning.
        read: the longest silence in the body of a response that is read whole. For streams, see
            `StreamTimes`. If the head comes before the request was sent, sending also breaks the
            silence.

    A phase that is `None` is bounded by `attempt` alone.

    """

    __slots__ = ("connect", "head", "read")

    connect: Optional[float]
    head: Optional[float]
    read: Optional[float]

    def __new__(
        cls,
        attempt: float,
        *,
        connect: Optional[float] = None,
        head: Optional[float] = None,
        read: Optional[float] = None,
    ) -> Timeout:
        check_seconds("attempt", attempt)
        timeout = super().__new__(cls, attempt)
        for name, seconds in (("connect", connect), ("head", head), ("read", read)):
            if seconds is not None:
                check_seconds(name, seconds)
            _set(timeout, name, None if seconds is None else float(seconds))
        return timeout

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Timeout cannot be changed: make another with {name}=")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Timeout cannot be changed")

    def __repr__(self) -> str:
        phases = [(name, getattr(self, name)) for name in self.__slots__]
        given = [f", {name}={seconds}" for name, seconds in phases if seconds is not None]
        return f"Timeout({float(self)}{''.join(given)})"

    def __reduce__(self) -> Tuple[object, ...]:
        made = partial(Timeout, connect=self.connect, head=self.head, read=self.read)
        return made, (float(self),)


def with_attempt(timeout: float, attempt: float) -> float:
    """Return a timeout of `attempt` seconds.

    If `timeout` is a `Timeout`, its limits for connecting, for the head and for each read are kept.
    """
    if isinstance(timeout, Timeout):
        return Timeout(attempt, connect=timeout.connect, head=timeout.head, read=timeout.read)
    return attempt


def at_most(limit: float, left: float) -> float:
    """Return the timeout `limit`, shortened to `left` seconds if it is longer.

    A shortened timeout is at least a millisecond, because many libraries take 0 for no limit, and
    some refuse it. A `Timeout` keeps its limits of the phases, such as `connect`.
    """
    return limit if limit <= left else with_attempt(limit, max(left, 0.001))
