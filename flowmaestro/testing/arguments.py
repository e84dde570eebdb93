"""Argument checks of the testing kit. Each error names the argument. Pure."""

from __future__ import annotations

import inspect
import json
import math
import sys
from typing import Any, List, Sequence, TypeVar

from flowmaestro_core.arguments import check_several

__tracebackhide__ = True  # pytest shows the lines of the test instead.

N = TypeVar("N")


def one_of(name: str, value: N, allowed: Sequence[str]) -> N:
    """Return `value` if it is one of `allowed`, else raise `ValueError`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def check_seconds(name: str, value: Any, *, or_endless: bool = False) -> None:
    """Raise unless `value` is a number of seconds of at least 0.

    Infinity is accepted only with `or_endless`. Raises `TypeError` or `ValueError`.
    """
    check_number(name, value)
    if not (0 <= value <= sys.float_info.max or (or_endless and value == math.inf)):
        kind = "a number" if or_endless else "a finite number"
        raise ValueError(f"{name} must be {kind} of at least 0, not {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raise `TypeError` if `value` is not an `int` or `float`, or is a `bool`.

    It may be negative or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")


def check_json(name: str, value: Any) -> None:
    """Raise `ValueError` for a value that JSON cannot express, such as a set or `nan`."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON: {error}") from error


def check_function(name: str, value: Any) -> None:
    """Raise `TypeError` for a value that is not callable, or is a coroutine function.

    An object whose `__call__` is a coroutine function is not recognised.
    """
    if not callable(value):
        raise TypeError(f"{name} must be a plain function, not {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} must be a plain function: the fake does not await {value!r}")


def several(name: str, value: Any, of: str) -> List[Any]:
    """Return `value`, an iterable, as a list.

    Raises `TypeError` for a string, a mapping, a data frame and a value that is not iterable. `of`
    names the elements in its message.
    """
    check_several(name, value, of)
    return list(value)


def whole(value: object) -> bool:
    """Return whether `value` is an `int` and not a `bool`."""
    return isinstance(value, int) and not isinstance(value, bool)
