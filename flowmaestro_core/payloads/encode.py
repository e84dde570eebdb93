"""Request bodies: the exact values of the caller as JSON, or an error that names the bad value."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Dict, Sequence, cast

__tracebackhide__ = True  # pytest shows the lines of the test instead.

_LARGEST = int(sys.float_info.max)
"""The server reads a larger number as infinite, and stores null."""
_ALWAYS_RIGHT = frozenset((str, bool, type(None)))
"""The types of values that need no check. A call for each of these would take most of the time."""
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_body(**fields: Any) -> bytes:
    """Return a JSON object of the fields. A field that is `None` is left out, not sent as null.

    Raises what `encode_json` raises; the error names the field.
    """
    given = [
        b'"%s":%s' % (name.encode(), encode_json(value, name))
        for name, value in fields.items()
        if value is not None
    ]
    return b"{" + b",".join(given) + b"}"


def encode_json(value: Any, name: str = "the body") -> bytes:
    """Return `value` as JSON in UTF-8.

    Raises `TypeError` or `ValueError` for a value that JSON cannot express, or an integer that is
    beyond the range of a float. The error calls the value `name`. It says which part of the value
    is wrong, unless that is a lone surrogate or the value is nested too deep.
    """
    try:
        _check(value, name)
        encoded = _JSON.encode(value)
    except RecursionError:
        raise ValueError(f"{name} refers to itself or is nested too deep") from None
    try:
        return encoded.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which UTF-8 cannot express") from None


def _check(value: Any, where: Any) -> None:
    """Raise `TypeError` or `ValueError` if `encode_json` does not accept `value`.

    Lone surrogates are not found. A value that refers to itself or is nested too deep raises
    `RecursionError` instead. `where` is the place of `value`, for the error: the name of the whole
    value, or a pair of the container's place and the key in the container.
    """
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if not -_LARGEST <= value <= _LARGEST:
            raise ValueError(f"{_place(where)} is beyond the range of a float: send it as a str")
    elif isinstance(value, float):
        if not math.isfinite(value):
            use = "None" if math.isnan(value) else "None or a str"
            raise ValueError(f"{_place(where)} is {value}, which JSON cannot express; use {use}")
    elif isinstance(value, dict):
        for key, item in cast("Dict[object, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"{_place(where)} has the key {key!r}; JSON keys must be str")
            if type(item) not in _ALWAYS_RIGHT:
                _check(item, (where, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Sequence[Any]", value)):
            kind = type(cast("object", item))
            if kind is int and -_LARGEST <= item <= _LARGEST:
                continue
            if kind not in _ALWAYS_RIGHT:
                _check(item, (where, index))
    else:
        raise TypeError(
            f"{_place(where)} is a {type(value).__name__}, which JSON cannot express; "
            f"use {_instead_of(value)}"
        )


def _instead_of(value: object) -> str:
    """Return a text, for an error, that says what to use instead of a value JSON cannot express."""
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):  # A missing value of pandas.
        return "None"
    if hasattr(kind, "isoformat"):  # `datetime`, `date`, and pandas' `Timestamp`.
        return "its .isoformat()"
    if hasattr(kind, "tolist"):  # The arrays and the scalars of numpy, and a pandas `Series`.
        return "its .tolist()"
    return "dict, list, str, int, float, bool or None"


def _place(where: Any) -> str:
    return where if isinstance(where, str) else f"{_place(where[0])}[{where[1]!r}]"
