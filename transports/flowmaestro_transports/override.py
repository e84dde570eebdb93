"""The override of the network, such as a fake. Its state is that of the whole process.

An application may create its clients itself. A testing kit that tests this application installs
itself here, so that it need not patch the application.

State of the module, on purpose: a context variable would not reach the threads that an application
starts, nor a test from its fixture.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Generator, List, NamedTuple, Optional, Protocol
from urllib.parse import urlsplit

from flowmaestro_transports.contract import AsyncTransport, Transport

if TYPE_CHECKING:
    import threading


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


class Installed(NamedTuple):
    """An override, whether other transports may send meanwhile, and the thread of its block."""

    override: TransportOverride
    allow_network: bool
    thread: threading.Thread


INSTALLED: List[Installed] = []
"""The overrides of the blocks that are entered, the innermost one last. Mostly there are none."""


@contextmanager
def override_transport(
    override: TransportOverride, *, allow_network: bool = False
) -> Generator[None, None, None]:
    """In a `with` block, let `override` make the transports of new clients without `transport=`.

    This applies to the whole process. If blocks are nested, the innermost one applies. Other
    clients are refused, unless `allow_network` is true. Raises `RuntimeError` if another thread
    that still runs has installed another override: clients of the two threads would reach the wrong
    one.
    """
    import threading  # Only tests install an override.

    here = threading.current_thread()
    for other in INSTALLED:
        if other.thread is not here and other.thread.is_alive() and other.override is not override:
            raise RuntimeError(
                f"{other.override!r} is installed by the thread {other.thread.name!r}, and serves "
                "all threads; pass transport= of a fake to the clients of each thread"
            )
    added = Installed(override, allow_network, here)
    INSTALLED.append(added)
    try:
        yield
    finally:
        # By identity, from the end: the same override may be installed twice.
        del INSTALLED[max(at for at, it in enumerate(INSTALLED) if it is added)]


def current_override() -> Optional[TransportOverride]:
    """Return the override in force, or `None`."""
    return INSTALLED[-1].override if INSTALLED else None


def refuse_network(transport: object, base_url: str) -> None:
    """Raise `RuntimeError` if an override is installed, and `transport` would send past it.

    A transport of the testing kit has the attribute `of_testing_kit`. Requests to a loopback
    address are let through, because a server of a fake listens there.
    """
    if not INSTALLED or INSTALLED[-1].allow_network or hasattr(transport, "of_testing_kit"):
        return
    host = urlsplit(base_url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return
    raise RuntimeError(
        f"nothing was sent: this client of {host} uses {transport!r}, while "
        f"{INSTALLED[-1].override!r} is installed. The client was made before that, or with "
        "transport=. Make it afterwards, pass transport=fake.transport(), or allow it with "
        "allow_network=True"
    )
