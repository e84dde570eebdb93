"""The errors of this SDK. A wrong argument raises `TypeError` or `ValueError` instead.

`ConnectionError` and `TimeoutError` derive from the builtins of the same name as well.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from flowmaestro_core.errors import (
    Attempt,
    AuthenticationError,
    AuthorizationError,
    CheckpointConflict,
    CheckpointError,
    ClientClosedError,
    ConflictError,
    ConnectionError,
    ExecutionError,
    FlowMaestroError,
    InsufficientCreditsError,
    JournalError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StartUnknownError,
    StreamError,
    TimeoutError,
    ValidationError,
    WebhookVerificationError,
)
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.payloads.encode import encode_json
from flowmaestro_core.payloads.reply import error_from_response

__all__ = [
    "Attempt",
    "AuthenticationError",
    "AuthorizationError",
    "CheckpointConflict",
    "CheckpointError",
    "ClientClosedError",
    "ConflictError",
    "ConnectionError",
    "ExecutionError",
    "FlowMaestroError",
    "InsufficientCreditsError",
    "JournalError",
    "NotFoundError",
    "RateLimitError",
    "ServerError",
    "StartUnknownError",
    "StreamError",
    "TimeoutError",
    "ValidationError",
    "WebhookVerificationError",
    "parse_api_error",
]


def parse_api_error(
    status_code: int, body: Dict[str, Any], request_id: Optional[str] = None
) -> FlowMaestroError:
    """Return the error for a status and a decoded error body. It is not raised.

    Args:
        status_code: the HTTP status of the response, 400 or more.
        body: the decoded body, `{"error": {"code": ..., "message": ...}}`, or one of the other
            forms that the server sends. If it has no message, the error's message quotes the body.
        request_id: `X-Request-ID` of the response. Without it, the body's own is used.

    Raises `TypeError` or `ValueError` for a `body` that JSON cannot express.

    """
    error = error_from_response(Response(status_code, Headers(), encode_json(body)))
    error.request_id = request_id or error.request_id
    return error
