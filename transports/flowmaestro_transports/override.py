"""What stands in for the network: the transports of clients that were made without one.

A testing kit installs itself here, so that an application that makes its own clients is tested
without patching it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Generator, List, Optional, Protocol

from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.defaults import DefaultAsyncTransport, DefaultTransport


class StandIn(Protocol):
    """What clients reach, in the place of the network, that were made without a transport."""

    @property
    def api_key(self) -> str:
        """The key of a client that has none."""
        ...

    def transport(self) -> Transport:
        """A new transport for a blocking client."""
        ...

    def async_transport(self) -> AsyncTransport:
        """A new transport for an awaiting client."""
        ...


# State of the module, on purpose: a context variable would not reach the threads that an
# application starts, nor a test from its fixture.
_standing_in: List[StandIn] = []


@contextmanager
def standing_in(stand_in: StandIn) -> Generator[None, None, None]:
    """A `with` block in which clients made without a transport use the stand-in's.

    In the whole process. Of several stand-ins the one that came last serves.
    """
    _standing_in.append(stand_in)
    try:
        yield
    finally:
        _standing_in.reverse()
        _standing_in.remove(stand_in)
        _standing_in.reverse()


def current_stand_in() -> Optional[StandIn]:
    """Who stands in for the network now; None for nobody."""
    return _standing_in[-1] if _standing_in else None


def default_transport() -> Transport:
    """The transport of a blocking client that was given none."""
    instead = current_stand_in()
    return DefaultTransport() if instead is None else instead.transport()


def default_async_transport() -> AsyncTransport:
    """The transport of an awaiting client that was given none."""
    instead = current_stand_in()
    return DefaultAsyncTransport() if instead is None else instead.async_transport()
