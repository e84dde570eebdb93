"""What goes wrong with an exchange, told as the transport contract has it. Pure."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.http.messages import Phase, TransportFailure


class ReplyError(ValueError):
    """The reply breaks a rule of HTTP/1.1 or a limit of ours, or it broke off."""


NETWORK_ERRORS = (OSError, ReplyError)
"""What the peer and the network between can cause; `ssl.SSLError` is an `OSError`."""

_DOING = {
    Phase.NOT_SENT: "could not send the request",
    Phase.MAYBE_PROCESSED: "no reply came",
    Phase.REPLY_BROKEN: "the reply broke off",
}


class LibraryError(Exception):
    """The name and the reason of an exception that an HTTP library raised.

    It stands in the chain in place of the original, whose attributes and traceback lead to the
    headers of the request.
    """


def network_failure(phase: Phase, error: BaseException) -> TransportFailure:
    """The failure for one of `NETWORK_ERRORS`; raise it from `error`.

    Its frames are dropped: they hold what the peer sent, which may repeat a secret. Those of its
    context stay: that is the caller's own exception, if the call was made in an `except` block.
    """
    each: Optional[BaseException] = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__
    # Only `ssl.SSLCertVerificationError` has a `verify_code`. That of a proxy is a cause.
    untrusted = hasattr(error, "verify_code") or hasattr(error.__cause__, "verify_code")
    return _failure(phase, str(error) or type(error).__name__, untrusted)


def library_failure(
    phase: Phase, error: BaseException, reason: str, *, timed_out: bool, untrusted: bool = False
) -> TransportFailure:
    """The failure for an `error` of an HTTP library, with a `reason` that can be shown.

    `untrusted` says that the certificate of the server was not trusted. Raise the failure outside
    of `except`.
    """
    failure = too_slow(phase) if timed_out else _failure(phase, reason, untrusted)
    kind = type(error)
    failure.__cause__ = LibraryError(f"{kind.__module__}.{kind.__qualname__}: {reason}")
    return failure


def _failure(phase: Phase, reason: str, untrusted: bool) -> TransportFailure:
    if untrusted:
        reason += " (verify= says whom to trust)"
    return TransportFailure(phase, f"{_DOING[phase]}: {reason}", permanent=untrusted)


def unsendable() -> TransportFailure:
    """The failure of a request that HTTP/1.1 cannot express. Says nothing of its content."""
    return TransportFailure(
        Phase.NOT_SENT,
        "the request cannot be sent: its method, URL or a header field is not valid in HTTP/1.1",
    )


def too_slow(phase: Phase, seconds: Optional[float] = None) -> TransportFailure:
    """The failure of an attempt that took longer than `seconds`, or than it may."""
    what = "the reply did not end" if phase is Phase.REPLY_BROKEN else _DOING[phase]
    limit = "in time" if seconds is None else f"within {seconds:g} s"
    return TransportFailure(phase, f"{what} {limit}", timed_out=True)


def closed(phase: Phase) -> TransportFailure:
    """The failure of an attempt, or of a read, whose transport or body was closed meanwhile."""
    return TransportFailure(phase, f"{_DOING[phase]}: closed by this side")
