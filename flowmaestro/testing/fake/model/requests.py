"""Requests to the fake as values, and patterns of requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, cast
from urllib.parse import unquote, urlsplit

from flowmaestro.testing.fake.model.routing import API_VERSION, query_of
from flowmaestro.testing.redaction import redacted_text
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.http.secrets import showable_value

MOST_LEVELS = 200
"""Levels of nested objects and arrays in a body that is decoded.

Python could decode more levels than its functions can then compare, copy or print.
"""
SHORT_SIZE = 4096
"""A URL, and the header fields of one message together, are long if they have more bytes."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class RecordedRequest:
    """One request that reached the fake.

    Attributes:
        method: the HTTP method.
        path: below the API root, such as `/workflows/wf_123/execute`; of a URL that is not below
            it, the whole path.
        params: the query parameters; of a repeated one, the last value.
        json: the decoded body; `None` if there is none, if it is not JSON, or if it is nested
            deeper than 200 levels.
        headers: the header fields; credentials are replaced by `***`.
        status: the status of the response; `None` before it, or if the connection was dropped
            before it.
        time: when the request arrived, in seconds on the fake's clock.

    """

    method: str
    path: str
    params: Mapping[str, str]
    json: Any
    headers: Headers
    status: Optional[int]
    time: float

    def __repr__(self) -> str:
        fields = ("method", "path", "params", "json", "status", "time")
        shown = self.shown()
        return f"RecordedRequest({', '.join(f'{it}={getattr(shown, it)!r}' for it in fields)})"

    def shown(self) -> RecordedRequest:
        """Return a copy to print, with credentials in the query and the body redacted."""
        params = {name: showable_value(name, value) for name, value in self.params.items()}
        return replace(self, params=params, json=json.loads(redacted_text(json.dumps(self.json))))


@dataclass
class LoggedRequest:
    """A request, and the status of its response once there is one."""

    request: Request
    time: float
    status: Optional[int] = None

    def recorded(self) -> RecordedRequest:
        """Return a `RecordedRequest` of the request, with the present status.

        It does not change later. Credentials in its header fields are redacted.
        """
        request = self.request
        pairs = request.headers.pairs
        return RecordedRequest(
            request.method,
            path_below_root(request.url),
            query_of(request.url),
            _json_of(request.body),
            Headers((name, showable_value(name, value)) for name, value in pairs),
            self.status,
            self.time,
        )


def size_of_long(headers: Headers) -> int:
    """Return how many bytes header fields have together; 0 for at most `SHORT_SIZE`."""
    size = sum(len(name) + len(value) for name, value in headers.pairs)
    return size if size > SHORT_SIZE else 0


def limited_size(request: Request) -> int:
    """Return how many bytes of a request count in the stores of many requests.

    They limit bodies, long URLs and long header fields. Short ones need no limit.
    """
    url = len(request.url) if len(request.url) > SHORT_SIZE else 0
    return len(request.body) + url + size_of_long(request.headers)


class Pattern(NamedTuple):
    """A pattern of requests. `None` matches any value; `*` in `path` matches any one segment."""

    method: Optional[str] = None
    path: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.method or 'request'} {self.path or ''}".strip()

    def fits(self, method: str, path: str) -> bool:
        """Return whether the pattern fits a request; `path` is below the API root."""
        return self.method in (None, method) and (self.path is None or self._leads_to(path))

    def fits_route(self, method: str, template: str) -> bool:
        """Return whether the pattern can fit a request of a route with this `template`."""
        # The fake answers a HEAD as a GET.
        asked = self._replace(method="GET") if self.method == "HEAD" else self
        return asked.fits(method, "/".join("*" if "{" in it else it for it in template.split("/")))

    def _leads_to(self, path: str) -> bool:
        wanted, found = (self.path or "").split("/"), path.split("/")
        if len(wanted) != len(found):
            return False
        return all(
            "*" in (one, other) or unquote(one) == unquote(other)
            for one, other in zip(wanted, found)
        )


def pattern(method: Optional[str], path: Optional[str]) -> Pattern:
    """Return a pattern that fits requests of this method to this path.

    `None` fits any method or any path. `path` is below the API root; `*` stands for any one
    segment. Raises `ValueError` for an unknown method, and for a malformed path, such as one with a
    query. A path that no endpoint has is accepted.
    """
    if method is not None and not (isinstance(method, str) and method.upper() in METHODS):
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise ValueError(f"path must begin with a slash, such as '/workflows', not {path!r}")
    if path is not None and path.endswith("/"):
        raise ValueError(f"path must not end with a slash: {path[:-1] or '/*'!r}, not {path!r}")
    if path is not None and ("?" in path or API_VERSION in path):
        raise ValueError(f"path must be below the API root and without a query, not {path!r}")
    if path is not None and ("{" in path or "<" in path):
        raise ValueError(f"path: '*' stands for any one segment, not {path!r}")
    if path is not None and any("*" in part and part != "*" for part in path.split("/")):
        raise ValueError(f"path: '*' stands for one whole segment, not for a part, as in {path!r}")
    return Pattern(method and method.upper(), path)


def path_below_root(url: str) -> str:
    """Return the path of a URL below its API root, such as `/workflows`.

    Slashes at its end are removed. Return the whole path, unchanged, if the URL is not below an
    API root, which ends with `/v1/`.
    """
    path = urlsplit(url).path
    _, version, below = path.partition(API_VERSION)
    return f"/{below.rstrip('/')}" if version else path


def _json_of(body: bytes) -> Any:
    try:
        value = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    # Most bodies have so few brackets that they need not be searched.
    few = body.count(b"[") + body.count(b"{") <= MOST_LEVELS
    return value if few or _levels_fit(value) else None


def _levels_fit(value: Any) -> bool:
    """Return whether `value` has at most `MOST_LEVELS` levels of nested objects and arrays."""
    level: List[Any] = [value]
    for _ in range(MOST_LEVELS):
        inner = [it for each in level for it in _members(each)]
        level = [it for it in inner if isinstance(it, (dict, list))]
        if not level:
            return True
    return False


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("Dict[str, Any]", value).values()
    return cast("Iterable[Any]", value) if isinstance(value, list) else ()
