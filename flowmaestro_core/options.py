"""What a client was told: key, base URL, time limit, retries, headers, checked at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple, cast

from flowmaestro_core import __version__
from flowmaestro_core.defaults import DEFAULT_BASE_URL, DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT
from flowmaestro_core.http.messages import Headers
from flowmaestro_core.http.urls import api_root
from flowmaestro_core.timeouts import check_seconds, with_total

USER_AGENT = f"flowmaestro-python/{__version__}"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_VISIBLE = re.compile(r"[\x21-\x7e]+")


Fields = Tuple[Tuple[str, str], ...]

_NO_HEADERS = Headers()
_set = object.__setattr__  # how frozen options get their values


@dataclass(frozen=True, init=False)
class ClientOptions:
    """Immutable settings of one client; `ValueError` or `TypeError` names a bad one.

    Attributes:
        api_key: the key, sent as `X-API-Key` and as a bearer token. Neither a repr nor
            `dataclasses.asdict` shows it.
        base_url: where the API lives.
        timeout: seconds that one attempt may take, or a `Timeout` for its phases, too.
        max_retries: how often a call may be tried again after its first attempt.
        headers: custom header fields for every request; one of the same name as a field of
            ours replaces it.
        call_timeout: as `timeout`, set for particular calls (`with_options`); it wins over the
            longer limit that some endpoints have of their own. `None` when not set.

    """

    base_url: str
    timeout: float
    max_retries: int
    headers: Mapping[str, str]
    call_timeout: Optional[float]
    api_root: str = field(init=False, repr=False)
    _own: Headers = field(init=False, repr=False)
    _custom: Headers = field(init=False, repr=False)
    _standing: Dict[Fields, Headers] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        headers: Mapping[str, str] = _NO_HEADERS,
        call_timeout: Optional[float] = None,
    ) -> None:
        check_token("api_key", api_key)
        _set(self, "base_url", base_url)
        _set(self, "api_root", api_root(base_url))
        check_seconds("timeout", timeout)
        _set(self, "timeout", timeout)
        if call_timeout is not None:
            check_seconds("timeout", call_timeout)
        _set(self, "call_timeout", call_timeout)
        _check_max_retries(max_retries)
        _set(self, "max_retries", max_retries)
        _set(self, "_custom", checked_headers(headers))
        _set(self, "headers", self._custom)
        key_fields = (("X-API-Key", api_key), ("Authorization", f"Bearer {api_key}"))
        _set(self, "_own", Headers((*key_fields, ("User-Agent", USER_AGENT))))
        _set(self, "_standing", {})

    @property
    def api_key(self) -> str:
        """The key: a property and no field, so that it is not shown with the fields."""
        return self._own["X-API-Key"]

    def with_changes(
        self,
        timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> ClientOptions:
        """A copy with what is not `None` changed; `headers` are added to those that are there."""
        added = self._custom if headers is None else checked_headers(headers)
        kept = tuple(pair for pair in self._custom.pairs if pair[0] not in added)
        return ClientOptions(
            self.api_key,
            self.base_url,
            self.timeout,
            self.max_retries if max_retries is None else max_retries,
            Headers(kept + added.pairs),
            self.call_timeout if timeout is None else timeout,
        )

    def timeout_for(self, minimum: float) -> float:
        """Seconds for one attempt of a call whose endpoint wants at least `minimum`.

        A `Timeout` keeps its phases when its total is raised.
        """
        if self.call_timeout is not None:
            return self.call_timeout
        return self.timeout if self.timeout >= minimum else with_total(self.timeout, minimum)

    def request_headers(self, *own: Tuple[str, str]) -> Headers:
        """The key, our own fields, those of the call, and the caller's, which win."""
        fields = self._own.pairs + own
        custom = self._custom
        if not custom.pairs:
            return Headers(fields)
        return Headers(tuple(pair for pair in fields if pair[0] not in custom) + custom.pairs)

    def standing_headers(self, own: Fields) -> Headers:
        """The same for fields that many calls have in common: one object, made once."""
        headers = self._standing.get(own)
        if headers is None:
            headers = self._standing[own] = self.request_headers(*own)
        return headers


def check_count(name: str, value: Any) -> None:
    """Refuse what is not a whole number of at least 1, naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def check_callback(name: str, value: Any) -> None:
    """Refuse what is neither `None` nor callable, naming the argument."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")


def check_token(name: str, value: Any) -> None:
    """Refuse what is not a text of visible ASCII characters, naming the argument alone.

    The value may be a secret, so it is not shown.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} is empty")
    if not is_token(value):
        raise ValueError(f"{name} holds white space, a control or a non-ASCII character")


def is_token(text: str) -> bool:
    """Whether `text` is made of visible ASCII characters alone, at least one."""
    return _VISIBLE.fullmatch(text) is not None


def _check_max_retries(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_retries must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"max_retries must be at least 0, not {value}")


def checked_headers(headers: Any) -> Headers:
    """The header fields, if a transport can send them; `TypeError` or `ValueError` if not."""
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict of str to str, not {type(headers).__name__}")
    given = Headers(cast("Mapping[str, str]", headers))
    for name, value in given.pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers: {name!r} and its value must both be str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is not a header name (RFC 9110, 5.6.2)")
        if name.lower() in _FRAMING:
            raise ValueError(f"headers: {name!r} is the transport's own to send")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(
                f"headers: the value of {name!r} holds a line break, a control or a non-ASCII "
                "character"
            )
    return Headers([(name, value.strip(" \t")) for name, value in given.pairs])
