"""Error responses: one exception, and a builder for each reason that all dialects share.

A refusal knows what is wrong; how that reads in JSON is the dialect's affair.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Literal, Optional, Tuple

Layer = Literal["api", "outer", "framework"]
"""The source of an error: an endpoint, the server's outermost handler, or the web framework."""


class Refusal(Exception):
    """A request that is answered with an error.

    `details` goes into the error object as it is; `headers` are sent along.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Optional[Dict[str, Any]] = None,
        *,
        layer: Layer = "api",
        headers: Iterable[Tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.layer: Layer = layer
        self.headers: Tuple[Tuple[str, str], ...] = tuple(headers)


def invalid(message: str, **fields: str) -> Refusal:
    """400: the request cannot be understood; `fields` says what is wrong with which."""
    return Refusal(400, "validation_error", message, dict(fields) or None)


def not_found(resource: str, id: str) -> Refusal:
    """404: there is no such resource."""
    resource = resource.capitalize()
    message = f"{resource} with id '{id}' not found"
    return Refusal(404, "resource_not_found", message, {"resource": resource, "id": id})


def unreadable(status: int, message: str, code: str = "") -> Refusal:
    """Refuse a request in the web framework, before any endpoint sees it."""
    return Refusal(status, code, message, layer="framework")


def no_route(method: str, path: str) -> Refusal:
    """404: no endpoint has that method and path."""
    return unreadable(404, f"Route {method}:{path} not found")


def lacking_scopes(required: Iterable[str], held: Iterable[str]) -> Refusal:
    """403: the key is good, but not for this."""
    required, held = sorted(required), sorted(held)
    missing = [scope for scope in required if scope not in held]
    return Refusal(
        403,
        "insufficient_scope",
        f"API key lacks required scopes: {', '.join(missing)}",
        {"required_scopes": required, "missing_scopes": missing, "your_scopes": held},
    )


def rate_limited(limit: int, window: str, retry_after: int) -> Refusal:
    """429: the key has used up its window."""
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"Rate limit exceeded: {limit} requests per {window}",
        {"limit": limit, "window": window, "retry_after": retry_after},
        headers=[("Retry-After", str(retry_after))],
    )
