"""The fake that is installed in place of the network. Its state is that of the whole process.

State of the module, on purpose: a context variable would not reach the threads that an application
starts, nor a test from its fixture.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generator, List, NamedTuple, Optional
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import threading


class _Installed(NamedTuple):
    """A fake, whether other transports may send meanwhile, and the thread that installed it."""

    fake: Any
    allow_network: bool
    thread: threading.Thread


_installed: List[_Installed] = []


@contextmanager
def install(fake: Any, *, allow_network: bool) -> Generator[None, None, None]:
    """Install a fake during a `with` block. If blocks are nested, the innermost one applies.

    Raises `RuntimeError` if another thread that still runs has installed another fake: clients of
    the two threads would reach the wrong one.
    """
    import threading  # Only tests install a fake.

    here = threading.current_thread()
    for other in _installed:
        if other.thread is not here and other.thread.is_alive() and other.fake is not fake:
            raise RuntimeError(
                f"{other.fake!r} is installed by the thread {other.thread.name!r}, and serves all "
                "threads; pass transport= of a fake to the clients of each thread"
            )
    added = _Installed(fake, allow_network, here)
    _installed.append(added)
    try:
        yield
    finally:
        # By identity, from the end: the same fake may be installed twice.
        del _installed[max(at for at, it in enumerate(_installed) if it is added)]


def current() -> Optional[Any]:
    """Return the fake that was installed last, or `None`."""
    return _installed[-1].fake if _installed else None


def refuse_network(transport: object, base_url: str) -> None:
    """Raise `RuntimeError` if a fake is installed, and `transport` would send past it.

    A transport of the testing kit has the attribute `of_testing_kit`. Requests to a loopback
    address are let through, because a server of a fake listens there.
    """
    if not _installed or _installed[-1].allow_network or hasattr(transport, "of_testing_kit"):
        return
    host = urlsplit(base_url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return
    raise RuntimeError(
        f"nothing was sent: this client of {host} uses {transport!r}, while "
        f"{_installed[-1].fake!r} is installed. The client was made before that, or with "
        "transport=. Make it afterwards, pass transport=fake.transport(), or allow it with "
        "allow_network=True"
    )
