"""HTTP messages as plain values: requests for a transport, and its responses and failures.

Pure: no I/O, no third-party packages. Requests and responses are frozen. The reprs redact secrets
in header fields and URLs, but not in the message of a `TransportFailure`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple, TypeVar, Union, cast, overload

from flowmaestro_core.http.secrets import showable_url, showable_value

T = TypeVar("T")

Fields = Tuple[Tuple[str, str], ...]
"""Header fields as names and values, in order."""

_set = object.__setattr__  # Sets the attributes of a frozen dataclass.


class Headers(Mapping[str, str]):
    """Header fields in the order given, looked up without regard to case (RFC 9110, 5.1).

    `pairs` are all fields as `(name, value)` tuples, repeated names included. As a mapping, the
    value of a repeated field is its values joined with `", "` (RFC 9110, 5.3), and iteration yields
    each name once, in lower case. `get_list` returns the values apart.
    """

    __slots__ = ("_index", "pairs")

    def __init__(self, pairs: Union[Mapping[str, str], Iterable[Tuple[str, str]]] = ()) -> None:
        fields: Iterable[Any] = pairs
        if not isinstance(pairs, tuple):
            if isinstance(pairs, Headers):
                fields = pairs.pairs
            elif hasattr(pairs, "items"):
                fields = cast("Mapping[str, str]", pairs).items()
        self.pairs: Fields = tuple(fields)
        self._index: Optional[dict[str, str]] = None

    def by_name(self) -> Mapping[str, str]:
        """Return the value of each field by its name in lower case, for several look-ups."""
        index = self._index
        if index is None:
            index = {}
            for name, value in self.pairs:
                key = name.lower()
                index[key] = f"{index[key]}, {value}" if key in index else value
            self._index = index
        return index

    # These ask for the index only if it is not made yet, because each function costs every call.

    def __getitem__(self, name: str) -> str:
        return (self._index or self.by_name())[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in (self._index or self.by_name())

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name())

    def __len__(self) -> int:
        return len(self.by_name())

    @overload
    def get(self, key: str, /) -> Optional[str]: ...
    @overload
    def get(self, key: str, /, default: Union[str, T]) -> Union[str, T]: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Return the value of a field, or `default`. Takes half as long as `Mapping.get`."""
        return (self._index or self.by_name()).get(key.lower(), default)

    def get_list(self, name: str) -> List[str]:
        """Return the values of all fields with this name, in order; `[]` if there are none."""
        wanted = name.lower()
        return [value for key, value in self.pairs if key.lower() == wanted]

    def __repr__(self) -> str:
        shown = [(name, showable_value(name, value)) for name, value in self.pairs]
        return f"Headers({shown!r})"

    def __reduce__(self) -> Tuple[object, ...]:
        return type(self), (self.pairs,)


HeaderFields = Union[Headers, Mapping[str, str], Iterable[Tuple[str, str]]]
"""Header fields as callers may pass them: `Headers`, a mapping, or pairs of name and value."""


@dataclass(frozen=True, init=False)
class Request:
    """An HTTP request, complete and ready to send.

    `url` is absolute and already percent-encoded. `headers` are the fields that the core wants
    sent; they may be passed as `Headers`, a mapping or pairs. A transport adds fields of its own,
    such as Host and Content-Length. `body` is the exact bytes, `b""` for none. `max_reply_size` is
    the most bytes of the response's decoded body that the sender can use, or `None`. It bounds
    memory: see the transport contract. Raises `TypeError`, naming the argument, for headers or a
    body of another type.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    max_reply_size: Optional[int] = field(default=None, compare=False)

    def __init__(
        self,
        method: str,
        url: str,
        headers: HeaderFields,
        body: bytes = b"",
        max_reply_size: Optional[int] = None,
    ) -> None:
        _set(self, "method", method)
        _set(self, "url", url)
        # A call passes what is right already, so only another type costs the call of a function.
        _set(self, "headers", headers if isinstance(headers, Headers) else _as_headers(headers))
        _set(self, "body", body if type(body) is bytes else _as_body(body))
        _set(self, "max_reply_size", max_reply_size)

    def __repr__(self) -> str:
        return f"<Request {self.method} {showable_url(self.url)}, {len(self.body)} bytes>"


@dataclass(frozen=True, init=False)
class ResponseHead:
    """Status and header fields of a response whose body is not read yet.

    `headers` may be passed as `Headers`, a mapping or pairs. Raises `TypeError`, naming the
    argument, for an argument of another type.
    """

    status: int
    headers: Headers

    def __init__(self, status: int, headers: HeaderFields) -> None:
        _set(self, "status", status if type(status) is int else _as_status(status))
        _set(self, "headers", headers if isinstance(headers, Headers) else _as_headers(headers))

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"


@dataclass(frozen=True, init=False)
class Response:
    """An HTTP response with its body, which is decompressed.

    `headers` may be passed as `Headers`, a mapping or pairs. Raises `TypeError`, naming the
    argument, for an argument of another type.
    """

    status: int
    headers: Headers
    body: bytes

    def __init__(self, status: int, headers: HeaderFields, body: bytes = b"") -> None:
        _set(self, "status", status if type(status) is int else _as_status(status))
        _set(self, "headers", headers if isinstance(headers, Headers) else _as_headers(headers))
        _set(self, "body", body if type(body) is bytes else _as_body(body))

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class Phase(enum.Enum):
    """The progress of an attempt when it failed. Retries depend on it."""

    NOT_SENT = "not sent"
    """No byte of the request reached the server. A retry is always safe."""
    MAYBE_PROCESSED = "maybe processed"
    """The request was sent, at least in part, but no response was received. The server may have
    acted."""
    REPLY_BROKEN = "reply broken"
    """The response has begun, and the rest is missing or malformed. The server has almost certainly
    acted."""


class TransportFailure(Exception):
    """Raised by a transport for every failure of the network. Its `__cause__`, if any, says more.

    `phase` says whether the server may have acted. `timed_out` says that a time limit has passed. A
    call that is not retried then raises a `TimeoutError`, otherwise a `ConnectionError`.
    `permanent` says that another attempt would fail in the same way, as with a certificate that is
    not trusted.
    """

    def __init__(
        self, phase: Phase, message: str, *, timed_out: bool = False, permanent: bool = False
    ) -> None:
        if not isinstance(phase, Phase) or not isinstance(message, str):
            raise TypeError("TransportFailure takes a Phase, then a message as text")
        super().__init__(message)
        self.phase = phase
        self.message = message
        self.timed_out = timed_out
        self.permanent = permanent

    def __repr__(self) -> str:
        limit = ", timed out" if self.timed_out else ""
        lasting = ", permanent" if self.permanent else ""
        return f"<TransportFailure {self.phase.value}: {self.message}{limit}{lasting}>"

    def __reduce__(self) -> Tuple[object, ...]:
        return type(self), (self.phase, self.message), self.__dict__


class TransportClosedError(RuntimeError):
    """Raised by a transport that is used after `close`."""

    def __init__(self, message: str = "this transport is closed") -> None:
        super().__init__(message)


def _as_headers(given: Any) -> Headers:
    if not isinstance(given, (str, bytes)):
        try:
            headers = Headers(given)
            if all(isinstance(name, str) and isinstance(text, str) for name, text in headers.pairs):
                return headers
        except (TypeError, ValueError):  # It is not iterable, or its items are not pairs.
            pass
    raise TypeError("headers must be Headers, a mapping of str to str, or pairs of str")


def _as_status(given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise TypeError(f"status must be an int, not {type(given).__name__}")


def _as_body(given: Any) -> bytes:
    if isinstance(given, bytes):  # a subclass
        return given
    raise TypeError(f"body must be bytes, not {type(given).__name__}")
