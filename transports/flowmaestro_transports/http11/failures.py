"""The failures of an exchange, as the transport contract defines them.

Error reports print the local variables of the frames in a traceback. So no variable in the
traceback of an exception that users get may hold the request's header fields, or bytes of the
response, which may echo a key. A failure is raised outside of `except`, once the frames with such
variables have ended, and its cause is a `LibraryError` or has no traceback. An interrupt or a
cancellation is raised again after `with_traceback(None)`.

May touch: a file descriptor, to see whether there is a free one.
"""

from __future__ import annotations

import errno
import os
from typing import Optional

from flowmaestro_core.http.messages import Phase, TransportFailure


class ReplyError(ValueError):
    """The response is malformed, truncated, beyond a limit of ours, or of a kind that we refuse."""


NETWORK_ERRORS = (OSError, ReplyError)
"""The errors that the peer or the network causes. `ssl.SSLError` is an `OSError`."""

_DOING = {
    Phase.NOT_SENT: "could not send the request",
    Phase.MAYBE_PROCESSED: "no response was received",
    Phase.REPLY_BROKEN: "the response was truncated",
}


class LibraryError(Exception):
    """The name of an exception that an HTTP library raised, and a reason without secrets.

    It replaces the original in the chain of causes, because the attributes and the traceback of
    the original lead to the headers of the request.
    """


def network_failure(phase: Phase, error: BaseException) -> TransportFailure:
    """Return the failure for one of `NETWORK_ERRORS`, to be raised from `error`.

    The tracebacks of `error` and its causes are dropped: their frames hold what the peer sent,
    which may repeat a secret. The traceback of a `__context__` that is not a cause stays: it may be
    the exception that the caller was handling.
    """
    each: Optional[BaseException] = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__
    # Only `ssl.SSLCertVerificationError` has a `verify_code`. If it is about the certificate of a
    # proxy, it is the cause of `error`.
    untrusted = hasattr(error, "verify_code") or hasattr(error.__cause__, "verify_code")
    return _failure(phase, str(error) or type(error).__name__, untrusted)


def library_failure(
    phase: Phase,
    error: BaseException,
    reason: str,
    *,
    timed_out: bool,
    untrusted: bool = False,
    permanent: bool = False,
) -> TransportFailure:
    """Return the failure for an `error` of an HTTP library, with a `reason` without secrets.

    Its cause is a `LibraryError`. If `timed_out` is True, the failure is a timeout, and its message
    leaves out the `reason`. `untrusted` says whether a certificate was not trusted, `permanent`
    whether another attempt would fail in the same way. Raise the failure outside of the `except`
    block, or `error` would be its context.
    """
    failure = too_slow(phase) if timed_out else _failure(phase, reason, untrusted, permanent)
    kind = type(error)
    failure.__cause__ = LibraryError(f"{kind.__module__}.{kind.__qualname__}: {reason}")
    return failure


def _failure(
    phase: Phase, reason: str, untrusted: bool, permanent: bool = False
) -> TransportFailure:
    if untrusted and _descriptors_are_used_up():
        # OpenSSL looks for certificates in a folder at each handshake. Without a descriptor it
        # finds none, and says that it trusts none.
        reason, untrusted = "no file descriptor is free to read certificates", False
    if untrusted:
        reason += " (verify= says whom to trust)"
    return TransportFailure(phase, f"{_DOING[phase]}: {reason}", permanent=untrusted or permanent)


def _descriptors_are_used_up() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def unsendable() -> TransportFailure:
    """Return the failure of a request that HTTP/1.1 cannot express.

    Its message does not show the request, which may hold secrets.
    """
    return TransportFailure(
        Phase.NOT_SENT,
        "the request cannot be sent: its method, URL or a header field is not valid in HTTP/1.1",
    )


def too_slow(phase: Phase, seconds: Optional[float] = None) -> TransportFailure:
    """Return the failure of an attempt or a read that timed out.

    Its message names the `seconds`, if they are given.
    """
    what = "the response did not end" if phase is Phase.REPLY_BROKEN else _DOING[phase]
    limit = "in time" if seconds is None else f"within {seconds:g} s"
    return TransportFailure(phase, f"{what} {limit}", timed_out=True)


def closed(phase: Phase) -> TransportFailure:
    """Return the failure of an attempt or a read that was interrupted, or is on a closed object."""
    return TransportFailure(phase, f"{_DOING[phase]}: closed by this side")
