"""What a client was told: key, base URL, time limit, retries, headers, checked at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Optional, Tuple, cast

from flowmaestro_core import __version__
from flowmaestro_core.http import Headers
from flowmaestro_core.urls import DEFAULT_BASE_URL, api_root

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RETRIES = 3
USER_AGENT = f"flowmaestro-python/{__version__}"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class ClientOptions:
    """Immutable settings of one client; `ValueError` or `TypeError` names a bad one.

    Attributes:
        api_key: the key, sent as `X-API-Key` and as a bearer token; never shown in a repr.
        base_url: where the API lives.
        timeout: seconds that one attempt may take.
        call_timeout: the same, set for particular calls (`with_options`); it wins over the
            longer limit that some endpoints have of their own. `None` when not set.
        max_retries: how often a call may be tried again after its first attempt.
        headers: custom header fields for every request; one of the same name as a field of
            ours replaces it.

    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout: float = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    headers: Mapping[str, str] = field(default_factory=Headers)
    call_timeout: Optional[float] = None
    api_root: str = field(init=False, repr=False)
    _custom: Headers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_token("api_key", self.api_key)
        object.__setattr__(self, "api_root", api_root(self.base_url))
        check_seconds("timeout", self.timeout)
        if self.call_timeout is not None:
            check_seconds("timeout", self.call_timeout)
        _check_max_retries(self.max_retries)
        object.__setattr__(self, "_custom", checked_headers(self.headers))
        object.__setattr__(self, "headers", self._custom)

    def with_changes(
        self,
        timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> ClientOptions:
        """A copy with what is not `None` changed; `headers` are added to those that are there."""
        changed = self
        if timeout is not None:
            changed = replace(changed, call_timeout=timeout)
        if max_retries is not None:
            changed = replace(changed, max_retries=max_retries)
        if headers is not None:
            added = checked_headers(headers)
            kept = tuple(pair for pair in self._custom.pairs if pair[0] not in added)
            changed = replace(changed, headers=Headers(kept + added.pairs))
        return changed

    def timeout_for(self, minimum: float) -> float:
        """Seconds for one attempt of a call whose endpoint wants at least `minimum`."""
        return self.call_timeout if self.call_timeout is not None else max(self.timeout, minimum)

    def request_headers(self, *own: Tuple[str, str]) -> Headers:
        """The key, our own fields, those of the call, and the caller's, which win."""
        fields = (
            ("X-API-Key", self.api_key),
            ("Authorization", f"Bearer {self.api_key}"),
            ("User-Agent", USER_AGENT),
            *own,
        )
        custom = self._custom
        if not custom.pairs:
            return Headers(fields)
        return Headers(tuple(pair for pair in fields if pair[0] not in custom) + custom.pairs)


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is not a positive, finite number of seconds, naming the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number of seconds, not {value}")


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
