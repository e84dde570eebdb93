"""Checks of arguments. Each error names the argument, and says what would be right.

Pure. Errors never show a value that may be a secret.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Dict, Optional, Tuple, TypeVar, cast

from flowmaestro_core.http.messages import Headers

__tracebackhide__ = True  # pytest shows the lines of the test instead.

T = TypeVar("T")

MAX_PATH = 32_767
"""The most characters of a path: Windows takes as many, Linux and macOS fewer. The error of a
system that refuses a path repeats all of it."""

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TRANSPORTS_OWN = frozenset({"connection", "content-length", "transfer-encoding"})


def check_count(name: str, value: Any, at_least: int = 1) -> None:
    """Raise `TypeError` if `value` is not an `int`, `ValueError` if it is below `at_least`.

    A `bool` does not count as an `int`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value}")


def check_seconds(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is a positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a positive number of seconds, not {seconds:g}")


def check_callback(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is callable or `None`."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")


def check_plain_function(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is `None`, or callable and not a coroutine function."""
    check_callback(name, value)
    if is_coroutine_function(value):
        raise TypeError(f"{name} must be a plain function, not a coroutine function")


def is_coroutine_function(value: Any) -> bool:
    """Return whether `value` is certain to return a coroutine when it is called.

    True for a coroutine function, for an object whose `__call__` is a coroutine function, and for a
    `functools.partial` of either. Other callables may still return an awaitable. `value` is not
    called.
    """
    while isinstance(value, functools.partial):
        value = value.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    calls = (value, type(value).__call__) if callable(value) else ()
    return any(map(inspect.iscoroutinefunction, calls))


def check_several(name: str, value: Any, of: str) -> None:
    """Raise `TypeError` unless `value` is an iterable of items, such as a list.

    A `str`, `bytes`, a mapping and a data frame are refused, although they are iterable: iterating
    over a data frame gives the names of its columns. `of` is the noun for the items in the error,
    such as `rows`.
    """
    kind = type(value).__name__
    if kind == "DataFrame":
        to_rows = "to_dicts()" if hasattr(value, "to_dicts") else 'to_dict(orient="records")'
        pass_instead = f"; pass {name}.{to_rows}"
    elif isinstance(value, Mapping):
        pass_instead = f"; pass list({name}) for its keys"
    elif isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        pass_instead = ""
    else:
        return
    raise TypeError(f"{name} must be a list or another iterable of {of}, not {kind}{pass_instead}")


def check_filter(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is `None` or a non-empty `str`.

    The server treats an empty filter like a missing one, and returns every item.
    """
    if value is not None and not text(name, value):
        raise ValueError(f"{name} must not be empty: leave it out to get every row")


def check_token(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is a `str` of visible ASCII characters.

    An empty `str` is refused, too. The error does not show `value`.
    """
    if not text(name, value):
        raise ValueError(f"{name} must not be empty")
    if not _VISIBLE.fullmatch(value):
        raise ValueError(
            f"{name} must consist of visible ASCII characters, without white space or line breaks"
        )


def check_choice(name: str, value: Any, *choices: str) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        allowed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {allowed}, not {value!r}")


def rerun_statuses(name: str, value: Any) -> Tuple[Any, ...]:
    """Return a tuple of the statuses in `value`. Executions that ended with one are started again.

    Raise the `TypeError` of `check_several`, and `ValueError` unless each status is `failed` or
    `cancelled`.
    """
    check_several(name, value, "statuses")
    statuses = tuple(value)
    for status in statuses:
        if status not in ("failed", "cancelled"):
            raise ValueError(f'{name} must hold "failed" and "cancelled" only, not {status!r}')
    return statuses


def file_path(name: str, value: Any) -> str:
    """Return a path as a `str`.

    Raise `TypeError` unless `value` is a `str` or a path-like object for a `str`, and `ValueError`
    if the path is empty, too long for every system, or holds a null character.
    """
    path = getattr(value, "__fspath__", lambda: value)()
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    if not path:
        raise ValueError(f"{name} must not be empty")
    if len(path) > MAX_PATH:
        raise ValueError(f"{name} must have at most {MAX_PATH} characters, not {len(path)}")
    if "\0" in path:
        raise ValueError(f"{name} must not hold a null character")
    return path


def text(name: str, value: Any) -> str:
    """Return `value`. Raise `TypeError` if it is not a `str`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def optional_text(name: str, value: Any) -> Optional[str]:
    """Return `value`. Raise `TypeError` if it is neither a `str` nor `None`."""
    return None if value is None else text(name, value)


def flag(name: str, value: T) -> T:
    """Return `value`. Raise `TypeError` if it is neither a `bool` nor `None`."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def number(name: str, value: Any) -> Optional[float]:
    """Return `value`. Raise `TypeError` if it is neither a number nor `None`, or is a `bool`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return value


def count(name: str, value: Any) -> Optional[int]:
    """Return `value`.

    Raise `TypeError` unless it is `None` or an `int` other than a `bool`, and `ValueError` if it is
    below 1.
    """
    if value is not None:
        check_count(name, value)
    return cast("Optional[int]", value)


def mapping(name: str, value: Any) -> Optional[Dict[str, Any]]:
    """Return a new dict with the items of a mapping; `None` for `None`.

    Raise `TypeError` for any other value.
    """
    if value is None:
        return None
    if not isinstance(value, (dict, Mapping)):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}")
    given: Dict[str, Any] = {**value}
    return given


def header_fields(value: Any) -> Headers:
    """Return the header fields in a mapping, without the spaces and tabs around their values.

    Raises `TypeError` if `value` is not a mapping of `str` to `str`. Raises `ValueError` for an
    invalid name (RFC 9110, section 5.1), for a value with other characters than visible ASCII,
    spaces and tabs, and for the fields that the transport sends: `Connection`, `Content-Length` and
    `Transfer-Encoding`. Also for `Expect` (section 10.1.1): requests are sent whole, without
    waiting for 100 (Continue). The error never shows the value of a field.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a dict of str to str, not {type(value).__name__}")
    fields = Headers(cast("Mapping[str, str]", value))
    for name, content in fields.pairs:
        if not isinstance(name, str) or not isinstance(content, str):
            raise TypeError(f"headers: the name {name!r} and its value must both be str")
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(
                f"headers: {name!r} is not a field name; use letters, digits and hyphens "
                "(RFC 9110, 5.6.2)"
            )
        if name.lower() in _TRANSPORTS_OWN:
            raise ValueError(f"headers: leave out {name!r}; the transport sends its own")
        if name.lower() == "expect":
            raise ValueError(
                f"headers: leave out {name!r}; a request is sent whole, without waiting for "
                "100 (Continue)"
            )
        if not _FIELD_VALUE.fullmatch(content):
            raise ValueError(
                f"headers: the value of {name!r} must consist of ASCII characters, without line "
                "breaks and other controls"
            )
    return Headers([(name, content.strip(" \t")) for name, content in fields.pairs])
