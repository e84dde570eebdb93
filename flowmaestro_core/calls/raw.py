"""Calls to any endpoint, such as one for which the SDK has no method."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional
from urllib.parse import unquote

from flowmaestro_core.arguments import mapping
from flowmaestro_core.calls.call import Call
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import Path, query
from flowmaestro_core.payloads.encode import encode_json
from flowmaestro_core.payloads.reply import Reply

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Idempotent methods (RFC 9110, 9.2.2). A raw call is repeatable if its method is one of these."""

_METHOD = re.compile(r"[A-Za-z]+")
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)+")


def raw_call(
    method: str, path: str, params: Optional[Mapping[str, Any]], json: Any
) -> Call[Reply[Any]]:
    """Return the call for any method and any path below the API root.

    If `json` is `None`, the request has no body.

    Raises `TypeError` or `ValueError` for a method that is not a word of ASCII letters; for a path
    that does not begin with `/`, is not percent-encoded, has a query, begins with `/api/v1/`, or
    has a segment `.` or `..`; and for `params` or `json` that cannot be encoded.
    """
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise ValueError(f"method must be an HTTP method such as 'GET', not {_shown(method)}")
    if not isinstance(path, str) or not _PATH.fullmatch(path) or _leads_up(path):
        raise ValueError(
            "path must begin with '/', be percent-encoded and stay below the API root, without "
            f"the query parameters, which go into params=, not {_shown(path)}"
        )
    if path.startswith("/api/v1/"):
        raise ValueError(f"path must be below the API root: leave out '/api/v1' of {path!r}")
    return Call(
        method.upper(),
        Path(path + query(mapping("params", params) or {})),
        b"" if json is None else encode_json(json, "json"),
        repeatable=method.upper() in IDEMPOTENT_METHODS,
        enveloped=False,
    )


def _shown(text: Any) -> str:
    """Return a path or a method for an error, without credentials and the query.

    These may be secret: the caller may have given a URL, perhaps as the method. Of what is not a
    `str`, return only the type.
    """
    if not isinstance(text, str):
        return type(text).__name__
    return repr(showable_url(text.partition("?")[0]))


def _leads_up(path: str) -> bool:
    """Return whether `path` has a segment `.` or `..`, perhaps with its dots encoded as `%2E`.

    An HTTP stack may remove such a segment, so that the path leads elsewhere.
    """
    return not {".", ".."}.isdisjoint(map(unquote, path.split("/")))
