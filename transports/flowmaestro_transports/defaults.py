"""The transports of clients created without one."""

from __future__ import annotations

import flowmaestro_transports
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.driving.executors import ClientTransport
from flowmaestro_transports.override import current_override


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
