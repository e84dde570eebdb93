"""What the transports on somebody's session share: requests and aiohttp."""

from __future__ import annotations

from flowmaestro_core.http.messages import TransportFailure


class LibraryError(Exception):
    """The name and the reason of an exception that an HTTP library raised.

    It stands in the chain in place of the original, whose attributes and traceback lead to the
    headers of the request.
    """


def caused(failure: TransportFailure, error: BaseException, reason: str) -> TransportFailure:
    """`failure`, with what can be shown of `error` as its cause. Raise it outside of `except`."""
    kind = type(error)
    failure.__cause__ = LibraryError(f"{kind.__module__}.{kind.__qualname__}: {reason}")
    return failure


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, for a session that is not of this `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")
