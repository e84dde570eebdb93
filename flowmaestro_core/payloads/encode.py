"""Request bodies: JSON that says exactly what the caller passed, or an error that names it."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, cast

from flowmaestro_core.options import check_count

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_body(**fields: Any) -> bytes:
    """A JSON object of the fields that are not `None`: what was left out is not sent as null.

    Raises `TypeError` or `ValueError`, naming the field and the place in it, for a value that
    JSON cannot express.
    """
    given = (
        b'"%s":%s' % (name.encode(), encode_json(value, name))
        for name, value in fields.items()
        if value is not None
    )
    return b"{" + b",".join(given) + b"}"


def encode_json(value: Any, name: str = "") -> bytes:
    """`value` as JSON in UTF-8, after a check that JSON can express it; `name` is for errors."""
    try:
        _check(value, (name,) if name else ())
        encoded = _JSON.encode(value)
    except RecursionError:
        raise ValueError(f"{name or 'the body'} refers to itself or is nested too deep") from None
    try:
        return encoded.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name or 'the body'} holds a lone surrogate, {error.reason}") from None


def mapping(name: str, value: Any) -> Optional[Dict[str, Any]]:
    """`value`, if it is a mapping or `None`; else `TypeError` naming the argument."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}")
    return None if value is None else dict(cast("Mapping[str, Any]", value))


def text(name: str, value: Any) -> str:
    """`value`, if it is a string; else `TypeError` naming the argument."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def optional_text(name: str, value: Any) -> Optional[str]:
    """`value`, if it is a string or `None`; else `TypeError` naming the argument."""
    return None if value is None else text(name, value)


def flag(name: str, value: Any) -> Optional[bool]:
    """`value`, if it is a `bool` or `None`; else `TypeError` naming the argument."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def number(name: str, value: Any) -> Optional[float]:
    """`value`, if it is a number or `None`; else `TypeError` naming the argument."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return value


def count(name: str, value: Any) -> Optional[int]:
    """`value`, if it is `None` or a whole number of at least 1; else an error that names it."""
    if value is not None:
        check_count(name, value)
    return cast("Optional[int]", value)


def _check(value: Any, where: Tuple[str, ...]) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{_place(where)} is {value}, which JSON cannot express")
    elif isinstance(value, dict):
        for key, item in cast("Dict[object, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"{_place(where)} has the key {key!r}; JSON keys must be str")
            _check(item, (*where, f"[{key!r}]" if where else key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Sequence[Any]", value)):
            _check(item, (*where, f"[{index}]"))
    else:
        raise TypeError(
            f"{_place(where)} is a {type(value).__name__}, which JSON cannot express; "
            "use dict, list, str, int, float, bool or None"
        )


def _place(where: Tuple[str, ...]) -> str:
    return "".join(where) or "the body"
