"""What goes wrong on an anyio connection, told as the transport contract has it."""

from __future__ import annotations

import re

import anyio
import h11

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.inflate import InflateError

NETWORK_ERRORS = (OSError, h11.RemoteProtocolError, InflateError, anyio.ClosedResourceError)
"""What the peer and the network between can cause; `ssl.SSLError` is an `OSError`."""

UNSENDABLE = (h11.LocalProtocolError, UnicodeError)
"""What a request causes that HTTP/1.1 cannot express."""

_DOING = {
    Phase.NOT_SENT: "could not send the request",
    Phase.MAYBE_PROCESSED: "no reply came",
    Phase.REPLY_BROKEN: "the reply broke off",
}


_QUOTE = re.compile(r":? *(bytearray\(|b['\"]).*", re.DOTALL)
"""Where h11's messages go on to quote the peer, at any length."""


def network_failure(phase: Phase, error: BaseException) -> TransportFailure:
    """The failure for one of `NETWORK_ERRORS`; raise it from `error`."""
    reason = _QUOTE.sub("", str(error)) or type(error).__name__
    return TransportFailure(phase, f"{_DOING[phase]}: {reason}")


def unsendable() -> TransportFailure:
    """The failure for one of `UNSENDABLE`.

    Raise it from None: the error beneath quotes the field, which may be a credential.
    """
    return TransportFailure(
        Phase.NOT_SENT,
        "the request cannot be sent: its method, URL or a header field is not valid in HTTP/1.1",
    )


def too_slow(phase: Phase, timeout: float) -> TransportFailure:
    """The failure of an attempt that took longer than `timeout` seconds."""
    what = "the reply did not end" if phase is Phase.REPLY_BROKEN else _DOING[phase]
    return TransportFailure(phase, f"{what} within {timeout:g} s", timed_out=True)


def closed(phase: Phase) -> TransportFailure:
    """The failure of an attempt, or of a read, whose transport or body was closed meanwhile."""
    return TransportFailure(phase, f"{_DOING[phase]}: closed by this side")
