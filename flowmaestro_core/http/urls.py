"""URLs: the API root, paths with ids in them, and query strings."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Mapping, Sequence, Tuple, cast
from urllib.parse import quote, urlencode, urljoin, urlsplit

from flowmaestro_core.arguments import text
from flowmaestro_core.defaults import DEFAULT_BASE_URL

__tracebackhide__ = True  # pytest shows the lines of the test instead.

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 3986, 2.3: such a segment is its own encoding
_NO_IDS: Mapping[str, str] = {}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f?#\\]")


def api_root(base_url: str) -> str:
    """Return the API root: the URL that the path of every endpoint is appended to.

    It is `/api/v1` below the base URL. A base URL whose path ends in `/v1` is the API root itself.
    A path prefix is kept; trailing slashes are harmless. Raises `ValueError` or `TypeError`,
    naming `base_url`, if `base_url` is not an absolute, percent-encoded http(s) URL, or has
    credentials, a query or a fragment.
    """
    if not _is_base_url(text("base_url", base_url)):
        raise ValueError(
            "base_url must be an http:// or https:// URL with a host, without a query, and with "
            f"its path percent-encoded, such as {DEFAULT_BASE_URL!r}"
        )
    if "@" in urlsplit(base_url).netloc:
        raise ValueError("base_url must not contain credentials; pass them as headers=")
    root = base_url.rstrip("/")
    return root if urlsplit(root).path.endswith("/v1") else root + "/api/v1"


class Path(str):
    """A path that remembers its template and the ids in it, for metrics.

    `route` is the template: `/workflows/{workflow_id}`; `""` if the template is unknown. A text
    that is added to a path is added to the template as well, but without the query in that text.
    """

    __slots__ = ("ids", "route")
    route: str
    ids: Mapping[str, str]

    def __new__(cls, text: str, route: str = "", ids: Mapping[str, str] = _NO_IDS) -> Path:
        made = str.__new__(cls, text)
        made.route, made.ids = route, ids
        return made

    def __add__(self, more: str) -> Path:
        return Path(super().__add__(more), self.route + more.partition("?")[0], self.ids)


def path(template: str, **ids: str) -> Path:
    """Fill `{name}` in a path template; each id becomes one percent-encoded segment.

    Raises `TypeError` or `ValueError`, naming the argument, for an id that is not a string, is
    empty, holds a lone surrogate, or is `.` or `..`: HTTP stacks would remove a segment of the
    path.
    """
    filled = template.format_map({name: _segment(name, value) for name, value in ids.items()})
    return Path(filled, template, ids)


def query(params: Mapping[str, Any]) -> str:
    """Return a query string with its `?`; `""` if every parameter is left out.

    A parameter that is `None` or an empty list is left out. Booleans are written as in JSON; each
    item of a list or tuple is a parameter of its own. Raises `TypeError` or `ValueError`, naming
    the parameter, for a value that is not a text, a finite number, a bool or a list of these. A
    lone surrogate raises a `ValueError` without the name.
    """
    given: Dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, (list, tuple)):
            given[name] = [_parameter(name, item) for item in cast("Sequence[Any]", value)]
        elif value is not None:
            given[name] = _parameter(name, value)
    try:
        encoded = urlencode(given, doseq=True)
    except UnicodeEncodeError:
        raise ValueError(
            "a query parameter holds a lone surrogate, which UTF-8 cannot express"
        ) from None
    return "?" + encoded if encoded else ""


def origin(url: str) -> Tuple[str, str, int]:
    """Return scheme, host and port of an absolute URL (RFC 6454). A key is sent to one origin.

    Raises `ValueError` if `urllib.parse` refuses the URL or its port.
    """
    parts = urlsplit(url)
    port = _DEFAULT_PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    return parts.scheme, (parts.hostname or "").lower(), port


def host_of(url: str) -> str:
    """Return the host of an absolute URL, with its port if the URL has one, for messages."""
    return urlsplit(url).netloc.rpartition("@")[2]


def resolve(base: str, location: str) -> str:
    """Return the absolute URL of a `Location` field (RFC 9110, 10.2.2), without its fragment.

    `location` may be relative to `base`, the URL of the request. Return `""` if `origin` refuses
    the result, or if it holds credentials, which would replace the key.
    """
    try:
        url = quote(urljoin(base, location).partition("#")[0], safe="%/:?#[]@!$&'()*+,;=~-._")
        origin(url)
    except ValueError:
        return ""
    return "" if "@" in urlsplit(url).netloc else url


def can_be_host(name: str) -> bool:
    """Return whether each label of a host's name has 1 to 63 characters (RFC 1035, 2.3.4).

    One dot may end the name. Nothing else is checked.
    """
    return all(0 < len(label) < 64 for label in name.removesuffix(".").split("."))


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        located = parts.scheme in _DEFAULT_PORTS and parts.port != 0
        located = located and can_be_host(parts.hostname or "")
    except ValueError:
        return False
    return located and parts.path.isascii() and not _FORBIDDEN.search(url)


def is_id(value: str) -> bool:
    """Return whether `path` accepts a text as an id."""
    try:
        _segment("id", value)
    except ValueError:
        return False
    return True


def _segment(name: str, value: str) -> str:
    if type(value) is not str:  # Mostly it is one, and a check of it is a call for each id.
        text(name, value)
    if value in ("", ".", ".."):
        raise ValueError(f"{name} must be an id, not {value!r}")
    if _UNRESERVED.fullmatch(value):
        return value
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which UTF-8 cannot express") from None


def _parameter(name: str, value: Any) -> str:
    if not isinstance(value, (str, int, float)):
        raise TypeError(
            f"the query parameter {name!r} must be a str, int, float or bool, or a list of "
            f"these, not {type(value).__name__}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the query parameter {name!r} must be finite, not {value}")
    return str(value).lower() if isinstance(value, bool) else str(value)
