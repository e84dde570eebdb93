"""What the transports on somebody's session share: requests and aiohttp."""

from __future__ import annotations

from flowmaestro_core.http.messages import Phase, TransportFailure


class LibraryError(Exception):
    """The name and the reason of an exception that an HTTP library raised.

    It stands in the chain in place of the original, whose attributes and traceback lead to the
    headers of the request.
    """


_WORDS = {
    Phase.NOT_SENT: ("cannot connect", "not connected in time"),
    Phase.MAYBE_PROCESSED: ("the connection was lost before the reply", "no reply in time"),
    Phase.REPLY_BROKEN: ("the reply is broken", "the reply did not end in time"),
}
"""What went wrong in each phase, and what it is called when a time limit was the reason."""


def library_failure(
    phase: Phase, error: BaseException, reason: str, *, timed_out: bool, untrusted: bool = False
) -> TransportFailure:
    """The failure for an `error` of a library, with a `reason` that can be shown.

    `untrusted` says that the certificate of the server was not trusted. Raise the failure outside
    of `except`.
    """
    if untrusted:
        reason += " (verify= says whom to trust)"
    what, late = _WORDS[phase]
    message = late if timed_out else f"{what}: {reason}"
    failure = TransportFailure(phase, message, timed_out=timed_out, permanent=untrusted)
    kind = type(error)
    failure.__cause__ = LibraryError(f"{kind.__module__}.{kind.__qualname__}: {reason}")
    return failure


def check_session(session: object, kind: type) -> None:
    """Raise `TypeError`, naming the argument, for a session that is not of this `kind`."""
    if not isinstance(session, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"session must be an instance of {expected}, not {type(session).__name__}")
