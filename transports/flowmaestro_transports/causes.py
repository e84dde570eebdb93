"""What an HTTP library raised, as text: its own exceptions hold the request, key included."""

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
