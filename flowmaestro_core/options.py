"""The options of a client: key, base URL, timeout, retries, headers. They are checked when set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from flowmaestro_core.arguments import check_count, check_seconds, check_token, header_fields
from flowmaestro_core.defaults import DEFAULT_BASE_URL, DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT
from flowmaestro_core.http.messages import Fields, Headers
from flowmaestro_core.http.urls import api_root
from flowmaestro_core.timeouts import Timeout, with_attempt
from flowmaestro_core.version import __version__

USER_AGENT = f"flowmaestro-python/{__version__}"
_NO_HEADERS = Headers()
_set = object.__setattr__  # Sets the attributes of a frozen dataclass.


def _check_timeout(timeout: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `timeout` is a positive, finite number of seconds.

    A `Timeout` is such a number.
    """
    try:
        check_seconds("timeout", timeout)
    except TypeError:
        raise TypeError(
            f"timeout must be a number of seconds or a flowmaestro.Timeout, not {_kind_of(timeout)}"
        ) from None


def _kind_of(value: object) -> str:
    """Return the name of a value's class, with the name of its package unless it is a builtin."""
    kind = type(value)
    home = kind.__module__.partition(".")[0]
    return kind.__name__ if home == "builtins" else f"{home}.{kind.__name__}"


@dataclass(frozen=True, init=False)
class ClientOptions:
    """Immutable settings of one client.

    Raises `ValueError` or `TypeError`, naming the setting, for an invalid one.

    Attributes:
        api_key: the key, sent as `X-API-Key` and as a bearer token. Neither a repr nor the repr of
            `dataclasses.asdict` shows it.
        base_url: the URL of the server.
        timeout: seconds that one attempt may take, or a `Timeout`, which limits its phases too.
            Some endpoints get more (`timeout_for`).
        max_retries: how often a call may be retried after its first attempt. A start that was not
            sent may be retried more often.
        headers: custom header fields for every request. They replace fields of the SDK with the
            same name, but not those that belong to one call (`request_headers`).
        call_timeout: seconds that one call may take, with its retries, pauses and hooks; `None` if
            only its attempts are limited.
        key_source: where the key came from, for the hint of a 401. Two options that differ in it
            only are equal.
        timeout_override: a `timeout` for particular calls (`with_options`). It replaces the longer
            limits of some endpoints as well. `None` if it is not set.

    """

    base_url: str
    timeout: float
    max_retries: int
    headers: Headers
    call_timeout: Optional[float]
    timeout_override: Optional[float]
    key_source: str = field(compare=False)
    api_root: str = field(init=False, repr=False)
    _own: Headers = field(init=False, repr=False)
    _standing: Dict[Fields, Headers] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        headers: Mapping[str, str] = _NO_HEADERS,
        call_timeout: Optional[float] = None,
        timeout_override: Optional[float] = None,
        key_source: str = "the argument api_key",
    ) -> None:
        check_token("api_key", api_key)
        _set(self, "base_url", base_url)
        _set(self, "api_root", api_root(base_url))
        _check_timeout(timeout)
        _set(self, "timeout", timeout)
        if call_timeout is not None:
            if isinstance(call_timeout, Timeout):
                raise TypeError(
                    "call_timeout must be a number of seconds, not a Timeout, which limits an "
                    "attempt; pass a Timeout as timeout"
                )
            check_seconds("call_timeout", call_timeout)
        _set(self, "call_timeout", call_timeout)
        if timeout_override is not None:
            _check_timeout(timeout_override)
        _set(self, "timeout_override", timeout_override)
        _set(self, "key_source", key_source)
        check_count("max_retries", max_retries, at_least=0)
        _set(self, "max_retries", max_retries)
        _set(self, "headers", header_fields(headers))
        key_fields = (("X-API-Key", api_key), ("Authorization", f"Bearer {api_key}"))
        _set(self, "_own", Headers((*key_fields, ("User-Agent", USER_AGENT))))
        _set(self, "_standing", {})

    @property
    def api_key(self) -> str:
        """The key. It is not a field of the dataclass, so that a repr does not show it."""
        return self._own["X-API-Key"]

    def with_changes(
        self,
        timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
        api_key: Optional[str] = None,
        call_timeout: Optional[float] = None,
    ) -> ClientOptions:
        """Return a copy with the arguments that are not `None`.

        `timeout` becomes the `timeout_override` of the copy. `headers` are added to
        the client's, and replace those with the same name.
        """
        added = self.headers if headers is None else header_fields(headers)
        kept = tuple(pair for pair in self.headers.pairs if pair[0] not in added)
        return ClientOptions(
            self.api_key if api_key is None else api_key,
            self.base_url,
            self.timeout,
            self.max_retries if max_retries is None else max_retries,
            Headers(kept + added.pairs),
            self.call_timeout if call_timeout is None else call_timeout,
            self.timeout_override if timeout is None else timeout,
            self.key_source if api_key is None else "the argument api_key",
        )

    def timeout_for(self, minimum: float) -> float:
        """Return the timeout in seconds of one attempt, for an endpoint that needs `minimum`.

        This is the client's timeout, raised to `minimum`; or the timeout that was set for the call,
        which is not raised. If the timeout is a `Timeout`, with limits for connecting, the head and
        reads, these stay as they are: only its total is raised.
        """
        if self.timeout_override is not None:
            return self.timeout_override
        return self.timeout if self.timeout >= minimum else with_attempt(self.timeout, minimum)

    def request_headers(self, *own: Tuple[str, str], call: Fields = ()) -> Headers:
        """Return the header fields of a request: the SDK's, `own`, the client's, and `call`.

        A field of the client replaces those of the SDK and of `own` with the same name, and a field
        of `call` replaces that of the client. `call` must not have names of the SDK or of `own`,
        which it does not replace.
        """
        fields = self._own.pairs + own
        custom = self.headers
        if not custom.pairs:
            return Headers(fields + call)
        stated = Headers(call)
        kept = tuple(pair for pair in fields if pair[0] not in custom)
        return Headers(kept + tuple(p for p in custom.pairs if p[0] not in stated) + call)

    def standing_headers(self, own: Fields) -> Headers:
        """Return `request_headers(*own)`. Calls with equal `own` get the same object."""
        headers = self._standing.get(own)
        if headers is None:
            headers = self._standing[own] = self.request_headers(*own)
        return headers
