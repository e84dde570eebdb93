"""HTTP as plain values: messages, dates, URLs, and which parts of them are secret."""

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)

__all__ = [
    "Headers",
    "Phase",
    "Request",
    "Response",
    "ResponseHead",
    "TransportClosedError",
    "TransportFailure",
]
