"""Error responses: one exception, and functions that build the usual ones.

A refusal has the facts of the error; the dialect defines its JSON form.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Literal, Optional, Tuple

Layer = Literal["api", "outer", "framework"]
"""The source of an error: the API itself, the server's outermost handler, or the web framework."""


class Refusal(Exception):
    """An error response. The model raises it, or passes it to a `Respond`.

    `details` is added to the JSON of the error unchanged, except to an error of the framework.
    `headers` are added to the response.
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

    @property
    def is_no_route(self) -> bool:
        """Whether no endpoint has the path of the request."""
        return self.status == 404 and self.layer == "framework"


def invalid(message: str, **fields: str) -> Refusal:
    """Return a 400 refusal of an invalid request. `fields` has the problem of each field."""
    return Refusal(400, "validation_error", message, dict(fields) or None)


def not_found(resource: str, id: str) -> Refusal:
    """Return a 404 refusal: the resource does not exist."""
    resource = resource.capitalize()
    message = f"{resource} with id '{id}' not found"
    return Refusal(404, "resource_not_found", message, {"resource": resource, "id": id})


def unreadable(status: int, message: str, code: str = "") -> Refusal:
    """Return an error response in the form of the web framework, not in that of the API.

    `code` is the framework's error code; `""` if the error has none.
    """
    return Refusal(status, code, message, layer="framework")


def no_route(method: str, path: str) -> Refusal:
    """Return a 404 refusal: no endpoint has this method and path."""
    return unreadable(404, f"Route {method}:{path} not found")


def lacking_scopes(required: Iterable[str], held: Iterable[str]) -> Refusal:
    """Return a 403 refusal: the key is valid, but lacks scopes."""
    required, held = sorted(required), sorted(held)
    missing = [scope for scope in required if scope not in held]
    return Refusal(
        403,
        "insufficient_scope",
        f"API key lacks required scopes: {', '.join(missing)}",
        {"required_scopes": required, "missing_scopes": missing, "your_scopes": held},
    )


def rate_limited(limit: int, window: str, retry_after: int) -> Refusal:
    """Return a 429 refusal: the key has reached a rate limit."""
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"Rate limit exceeded: {limit} requests per {window}",
        {"limit": limit, "window": window, "retry_after": retry_after},
        headers=[("Retry-After", str(retry_after))],
    )
