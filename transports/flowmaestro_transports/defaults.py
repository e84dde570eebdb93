"""The transports of clients created without one, and an override of them.

A testing kit installs itself here, to test an application that creates its own clients without
patching it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Generator, List, Optional, Protocol

import flowmaestro_transports
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.driving.executors import ClientTransport


class TransportOverride(Protocol):
    """What clients use instead of the network if they were created without a transport."""

    @property
    def api_key(self) -> str:
        """The key of a client that has none."""
        ...

    def transport(self) -> Transport:
        """A new transport for a sync client."""
        ...

    def async_transport(self) -> AsyncTransport:
        """A new transport for an async client."""
        ...


# State of the module, on purpose: a context variable would not reach the threads that an
# application starts, nor a test from its fixture.
_overrides: List[TransportOverride] = []


@contextmanager
def override_transport(override: TransportOverride) -> Generator[None, None, None]:
    """A `with` block in which clients created without a transport use the override's.

    It applies to the whole process. Of several overrides, the last one counts.
    """
    _overrides.append(override)
    try:
        yield
    finally:
        _overrides.reverse()
        _overrides.remove(override)
        _overrides.reverse()


def current_override() -> Optional[TransportOverride]:
    """The override in force now, or `None`."""
    return _overrides[-1] if _overrides else None


def default_transport() -> ClientTransport[Transport]:
    """The transport of a sync client created without one: an override's, or `SocketTransport`."""
    override = current_override()
    if override is not None:
        return ClientTransport(override.transport())
    return ClientTransport(None, lambda: flowmaestro_transports.SocketTransport())


def default_async_transport() -> ClientTransport[AsyncTransport]:
    """The same for an async client: an override's, or `AnyioTransport`."""
    override = current_override()
    if override is not None:
        return ClientTransport(override.async_transport())
    return ClientTransport(None, lambda: flowmaestro_transports.AnyioTransport())
