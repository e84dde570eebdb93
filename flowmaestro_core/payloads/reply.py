"""Replies: decoded response bodies as dicts, and the errors that error responses become."""

from __future__ import annotations

import json
import math
import re
from itertools import chain
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Generic,
    List,
    Literal,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    overload,
)

from flowmaestro_core import errors
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.http.scrub import (
    LONGEST_BODY,
    LONGEST_DETAILS,
    LONGEST_TEXT,
    SecretScrubber,
)
from flowmaestro_core.http.secrets import without_keys
from flowmaestro_core.payloads.hints import HintingDict
from flowmaestro_core.payloads.json_values import JsonObject, object_or_empty, text_or_empty

if TYPE_CHECKING:
    from flowmaestro_core.types import PaginationInfo, ResponseMeta

T = TypeVar("T")

Shape = Callable[[JsonObject], None]
"""A function that adds to a decoded reply the keys that its type declares and it lacks."""

_BOM = "\ufeff"


def _refuse_constant(name: str) -> NoReturn:
    """Raise `ValueError` for NaN or an infinity, which `json` accepts, but JSON does not have."""
    raise ValueError(f"JSON has no {name}")


_decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant)
_scan_json: Callable[[str, int], Tuple[Any, int]] = _decoder.scan_once
"""Returns one JSON value and where it ends. It takes half as long as `json.loads`."""
_JSON_SPACE = " \t\n\r"
_NO_SECRETS = SecretScrubber()
MAX_JSON_DEPTH = 500
"""The deepest nesting of lists and objects that is accepted; empty ones do not count. Python could
not print or copy a deeper value."""


class RateLimit(NamedTuple):
    """The rate-limit headers of one response; each is `None` if it is absent or not a whole number.

    `reset_after` is the number of seconds from the response to the end of the window, by the
    server's own clock (`X-RateLimit-Reset` minus `Date`), at least 0. It is `None` without a valid
    `Date`, too.
    """

    limit: Optional[int] = None
    remaining: Optional[int] = None
    reset_after: Optional[float] = None
    limit_day: Optional[int] = None
    remaining_day: Optional[int] = None

    @classmethod
    def from_headers(cls, headers: Headers) -> RateLimit:
        """Return the limits in the `X-RateLimit-*` fields."""
        reset = _whole_number(headers.get("x-ratelimit-reset"))
        sent_at = None if reset is None else parse_http_date(headers.get("date", ""))
        return cls(
            limit=_whole_number(headers.get("x-ratelimit-limit")),
            remaining=_whole_number(headers.get("x-ratelimit-remaining")),
            reset_after=None if reset is None or sent_at is None else max(0.0, reset - sent_at),
            limit_day=_whole_number(headers.get("x-ratelimit-limit-day")),
            remaining_day=_whole_number(headers.get("x-ratelimit-remaining-day")),
        )


class Reply(HintingDict, Generic[T]):
    """A decoded response as a dict: JSON-serialisable, picklable, equal to the plain dict.

    `reply["data"]` is the resource. For any other attribute and for a missing key, the error says
    what to write instead.

    Attributes:
        status_code: the HTTP status.
        headers: the header fields of the response.
        attempts: how many attempts the call took, 1 if the first succeeded. Redirects do not count.

    """

    status_code: int = 0
    headers: Headers = Headers()
    attempts: int = 0
    _inner = ("data",)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["data"]) -> T: ...
        @overload
        def __getitem__(self, key: Literal["meta"]) -> ResponseMeta: ...
        @overload
        def __getitem__(self, key: Literal["pagination"]) -> PaginationInfo: ...
        @overload
        def __getitem__(self, key: str) -> Any: ...
        def __getitem__(self, key: str) -> Any: ...

    @property
    def request_id(self) -> Optional[str]:
        """The id to quote to support; `None` if there is none.

        It is `meta.request_id`, else the `X-Request-ID` header.
        """
        return request_id_of(self, self.headers)

    @property
    def rate_limit(self) -> RateLimit:
        """The key's rate limits, as the response reported them."""
        return RateLimit.from_headers(self.headers)

    def _repr_html_(self) -> Optional[str]:
        from flowmaestro_core.showing.html import reply_html

        return reply_html(self)


Page = Reply[List[T]]
"""The reply of a list call. `page["data"]` is a list; `page["pagination"]` holds its page number
and the counts of pages and items."""


class MessageList(List[Any]):
    """The messages of a thread: a list that returns itself for the key `"messages"`.

    Version 0.1.0 of the SDK returned what the deployed server sends, `{"messages": [...]}`.
    Programs that were written for it keep working.
    """

    def __getitem__(self, index: Any) -> Any:
        """Return the item at an index, a slice, or the whole list for `"messages"`."""
        return self if index == "messages" else super().__getitem__(index)


def decode_json(body: Union[bytes, str]) -> Any:
    """Return the JSON value in `body`. Raises `ValueError` if it is not JSON or nested too deep.

    The error does not hold the body, which may be large or secret. Bytes are UTF-8; a byte
    order mark before the JSON is ignored (RFC 8259, section 8.1).
    """
    try:
        text = body if isinstance(body, str) else body.decode("utf-8").removeprefix(_BOM)
        text = text.strip(_JSON_SPACE)
        value, end = _scan_json(text, 0)
    except StopIteration as stop:
        problem = f"no JSON value at character {stop.value}"
    except UnicodeDecodeError as error:
        problem = f"no UTF-8 at byte {error.start}: {error.reason}"
    except ValueError as error:  # A malformed value, NaN, or an integer of too many digits.
        problem = str(error)
    except RecursionError:
        problem = "the JSON is nested too deep"
    else:
        if end < len(text):
            problem = f"more than one JSON value: another begins at character {end}"
        # Most texts are short, or have few brackets. Their values cannot be too deep. To count
        # takes 2 % of the time for decoding a text that consists of brackets.
        elif (
            end > 2 * MAX_JSON_DEPTH
            and text.count("[") + text.count("{") > MAX_JSON_DEPTH
            and _is_too_deep(value)
        ):
            problem = "the JSON is nested too deep"
        else:
            return value
    raise ValueError(problem)


def _is_too_deep(value: Any) -> bool:
    """Return whether a decoded value is nested deeper than `MAX_JSON_DEPTH`.

    The limit of the decoder itself depends on the version of Python and on the caller's stack.
    """
    level: List[Any] = [[value]]
    for _ in range(MAX_JSON_DEPTH + 1):
        values = chain.from_iterable(it if it.__class__ is list else it.values() for it in level)
        level = [each for each in values if each and each.__class__ in (dict, list)]
        if not level:
            return False
    return True


def request_id_of(body: Any, headers: Headers) -> Optional[str]:
    """Return `meta.request_id` of a decoded body, else the `X-Request-ID` header, else `None`."""
    meta = object_or_empty(object_or_empty(body).get("meta"))
    return text_or_empty(meta.get("request_id")) or headers.get("x-request-id")


def shown_request_id(body: Any, headers: Headers, scrubber: SecretScrubber) -> Optional[str]:
    """Return the request id as errors and reporters show it; `None` if the response has none.

    It is one line, redacted and truncated.
    """
    found = request_id_of(body, headers)
    return found and scrubber.line(found)


def retry_after(headers: Headers) -> Optional[float]:
    """Return how many seconds the server asks to wait; `None` without a valid value.

    `retry-after-ms` comes first, then `Retry-After` (RFC 9110, 10.2.3): seconds, fractions allowed,
    or an HTTP-date, which counts from the `Date` of the response. Negative, infinite and malformed
    values are ignored.
    """
    milliseconds = _duration(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _duration(value)
    if seconds is not None or value is None:
        return seconds
    until, sent_at = parse_http_date(value), parse_http_date(headers.get("date", ""))
    return None if until is None or sent_at is None else max(0.0, until - sent_at)


class NonJsonBody(str):
    """The beginning of an error body that is not JSON, such as an error page of a proxy."""

    __slots__ = ()


def error_from_response(
    response: Response, scrubber: SecretScrubber = _NO_SECRETS
) -> FlowMaestroError:
    """Return the error for a response that is not a success, whatever its status and its body.

    `scrubber` redacts the body before it is decoded. A body longer than `LONGEST_ERROR_BODY` is
    truncated. If it then is not JSON, it is treated as text. A 5xx that reports a malformed id
    becomes a `NotFoundError`.

    Three shapes are decoded: the API's own envelope, the outer handler's
    `{"success": false, "error": "text"}`, and the framework's `{"statusCode", "error", "message"}`.
    For any other body, the message quotes the beginning of its text. `details` keeps the body, if
    it has no details of its own: decoded if it is JSON, else its first 500 characters; `None` if it
    is empty.
    """
    status, headers = response.status, response.headers
    data = scrubber.beginning(response.body, LONGEST_ERROR_BODY)
    # A server may quote another key than that of this client.
    kept = without_keys(data.decode("utf-8", "surrogateescape"))
    data = kept.encode("utf-8", "surrogateescape")
    try:
        body = decode_json(data)
    except ValueError:
        body = None
    code, message, details = _read_error(object_or_empty(body))
    if not message:
        message, details = _unknown_error(status, data, body, details)
    kind = _BY_STATUS.get(status) or (errors.ServerError if status >= 500 else FlowMaestroError)
    if status >= 500 and _INVALID_ID in message.lower():
        kind, message = errors.NotFoundError, _WRONG_FORM + message
    error = kind(message[:LONGEST_TEXT], code[:LONGEST_TEXT])
    error.status_code = status
    error.headers = scrubber.headers(headers)
    text = data.decode("utf-8", "replace").removeprefix(_BOM)
    error.body = text[:LONGEST_BODY]
    error.request_id = request_id_of(body, headers)
    error.details = details
    error.retry_after = retry_after(headers)
    if status == 429 and error.retry_after is None:
        error.retry_after = _duration(object_or_empty(details).get("retry_after"))
    return error


def is_daily_quota_error(error: Exception) -> bool:
    """Return whether a 429 says that the daily quota is used up.

    A retry within this call is then pointless.
    """
    if not isinstance(error, errors.RateLimitError):
        return False
    return object_or_empty(error.details).get("window") == "day"


_INVALID_ID = "invalid input syntax for type uuid"
"""The deployed server's message for a malformed id. The status of that response is a 5xx, but a
retry cannot help."""
_WRONG_FORM = "An id has the wrong form; it must be a UUID. The server says: "

_BY_STATUS: Dict[int, Type[FlowMaestroError]] = {
    400: errors.ValidationError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditsError,
    403: errors.AuthorizationError,
    404: errors.NotFoundError,
    408: errors.TimeoutError,
    409: errors.ConflictError,
    422: errors.ValidationError,
    429: errors.RateLimitError,
}


def _read_error(body: Dict[str, Any]) -> tuple[str, str, Any]:
    """Return code, message and details of an error body of any known shape.

    Code and message are `""`, and details `None`, if the body does not hold them.
    """
    error = object_or_empty(body.get("error"))
    code = text_or_empty(error.get("code")) or text_or_empty(body.get("code"))
    message = (
        text_or_empty(error.get("message"))
        or text_or_empty(body.get("message"))
        or text_or_empty(body.get("error"))
    )
    return code, message, error.get("details", body.get("details"))


def _unknown_error(status: int, data: bytes, body: Any, details: Any) -> Tuple[str, Any]:
    """Return message and details for an error body in which no message was found."""
    text = data.decode("utf-8", "replace").removeprefix(_BOM)[:LONGEST_DETAILS]
    if details is None:
        details = (NonJsonBody(text) if text else None) if body is None else body
    said = _snippet(text) or "no readable error"
    return f"The server answered with status {status}: {said}", details


def _snippet(text: str) -> str:
    """Return the first line of `text` that is not blank, without markup, shortened; else `""`."""
    for line in _MARKUP.sub("\n", text).splitlines():
        words = "".join(char if char.isprintable() else " " for char in line).split()
        if words:
            return " ".join(words)[:_QUOTED]
    return ""


LONGEST_ERROR_BODY = 1 << 16
"""Bytes of an error body that are decoded. An error of the API has some hundred; the search for
secrets in a body takes time for each byte."""
_QUOTED = 120
"""Characters of an error body of unknown shape that an error's message quotes: one or two lines of
a terminal, as messages of the API have."""

_MARKUP = re.compile(r"<[/!a-zA-Z][^<>]*>")


def _duration(value: Any) -> Optional[float]:
    """Return a finite number of at least zero, from a number or a decimal text; else `None`."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


def _whole_number(value: Optional[str]) -> Optional[int]:
    """Return a text of at most 18 ASCII digits as a number; `None` for any other value.

    A number of 18 digits fits into 64 bits. Python would need quadratic time for a very long one.
    """
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 18):
        return None
    return int(value)


def missing_id_error(started: Reply[Any], cause: Exception) -> errors.ServerError:
    """Return the error for a start whose reply has no usable `execution_id`.

    The server has started the execution, but without its id the SDK cannot follow it.
    """
    error = errors.ServerError(
        "The server started an execution but returned no usable execution_id",
        "invalid_response",
        started.status_code,
        started.request_id,
    )
    error.maybe_processed = True
    error.__cause__ = cause
    return error
