"""Guards for objects of one process: clients, transports, and handles of open streams."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Callable, NoReturn, TypeVar

from flowmaestro_core.http.messages import Phase, TransportFailure

T = TypeVar("T")


class NotPicklable:
    """Base of objects that hold connections and so can be neither pickled nor copied.

    `pickle` and `copy` raise a `TypeError` that says what to do instead. (Clients can be copied:
    they override that.)
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds connections, which pickle and copy cannot duplicate; "
            "make one in each process"
        )


def warn_unclosed(owner: object) -> None:
    """Warn that `owner` was collected while it held open connections."""
    warnings.warn(
        f"unclosed {owner!r}; close it, or use `with`", ResourceWarning, source=owner, stacklevel=3
    )


def quiet_at_exit(delete: Callable[[T], None]) -> Callable[[T], None]:
    """Decorate a `__del__` so that it ignores missing names when the interpreter ends.

    It then ignores `AttributeError` and `TypeError`, which would be printed. The interpreter may
    have set the names in our modules to None before it collects the last objects. The operating
    system then releases their resources.
    """
    is_finalizing = sys.is_finalizing  # of this function, so it stays

    def __del__(self: T) -> None:  # noqa: N807 - tracebacks show this name
        try:
            delete(self)
        except (AttributeError, TypeError):
            if not is_finalizing():
                raise

    return __del__


class ForkGuard:
    """Remembers the process in which an object was made.

    A child after `os.fork` has copies of all objects of its parent, and shares its sockets. A
    transport that makes its own sockets makes new ones in the child. There it neither reads from,
    writes to, nor shuts down the parent's sockets. It may close its copies of their file
    descriptors, which does not affect the parent.
    """

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether the current process was forked after this guard was created."""
        return os.getpid() != self._pid


def of_the_parent() -> TransportFailure:
    """Return the failure for a child process that reads a body which its parent has opened."""
    return TransportFailure(Phase.REPLY_BROKEN, "the stream was opened by the parent process")
