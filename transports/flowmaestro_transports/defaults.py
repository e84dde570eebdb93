"""The transports of clients created without one, and an override of them.

An application may create its clients itself. A testing kit that tests this application installs
itself here, so that it need not patch the application.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Generator, Optional, Protocol

import flowmaestro_transports
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.driving.executors import ClientTransport
from flowmaestro_transports.primitives.installed import current, install


class TransportOverride(Protocol):
    """A replacement of the network for clients that were created without a transport."""

    @property
    def api_key(self) -> str:
        """The API key of clients that get none from an argument or `FLOWMAESTRO_API_KEY`."""
        ...

    def transport(self) -> Transport:
        """Return a new transport for a sync client."""
        ...

    def async_transport(self) -> AsyncTransport:
        """Return a new transport for an async client."""
        ...


@contextmanager
def override_transport(
    override: TransportOverride, *, allow_network: bool = False
) -> Generator[None, None, None]:
    """In a `with` block, let `override` make the transports of new clients without `transport=`.

    This applies to the whole process. If blocks are nested, the innermost one applies. Other
    clients are refused, unless `allow_network` is true. Raises `RuntimeError` if another thread has
    installed another override.
    """
    with install(override, allow_network=allow_network):
        yield


def current_override() -> Optional[TransportOverride]:
    """Return the override in force, or `None`."""
    return current()


def default_transport() -> ClientTransport[Transport]:
    """Return the `ClientTransport` of a new sync client that is given no transport.

    It holds a transport of the override in force (`override_transport`). Without an override, it
    makes a `SocketTransport` when the transport is first needed.
    """
    override = current_override()
    if override is not None:
        return ClientTransport(override.transport())
    return ClientTransport(None, lambda: flowmaestro_transports.SocketTransport())


def default_async_transport() -> ClientTransport[AsyncTransport]:
    """Return the `ClientTransport` of a new async client that is given no transport.

    It holds a transport of the override in force (`override_transport`). Without an override, it
    makes an `AnyioTransport` when the transport is first needed.
    """
    override = current_override()
    if override is not None:
        return ClientTransport(override.async_transport())
    return ClientTransport(None, lambda: flowmaestro_transports.AnyioTransport())
