"""What nobody can mean is refused at the call, by a message that names the argument. Pure."""

from __future__ import annotations

import inspect
import json
import math
import sys
from typing import Any, List, Sequence, TypeVar

from flowmaestro_core.arguments import check_several

N = TypeVar("N")


def one_of(name: str, value: N, allowed: Sequence[str]) -> N:
    """`value`, one of a few words; anything else is a `ValueError`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def check_seconds(name: str, value: Any, *, or_endless: bool = False) -> None:
    """Refuse what is no time to wait for."""
    check_number(name, value)
    if not (0 <= value <= sys.float_info.max or (or_endless and value == math.inf)):
        finite = "" if or_endless else " and finite"
        raise ValueError(f"{name} must be from 0 up{finite}, not {value!r}: time runs forwards")


def check_number(name: str, value: Any) -> None:
    """Refuse what is no number of seconds; without an end, or negative, it may be."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")


def check_json(name: str, value: Any) -> None:
    """Refuse what JSON cannot say, such as a set or `nan`."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON: {error}") from error


def check_function(name: str, value: Any) -> None:
    """Refuse what cannot be called, or what would have to be awaited."""
    if not callable(value):
        raise TypeError(f"{name} must be a plain function, not {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} must be a plain function: the fake does not await {value!r}")


def several(name: str, value: Any, of: str) -> List[Any]:
    """`value`, a list or another iterable, as a list; one thing instead is a `TypeError`."""
    check_several(name, value, of)
    return list(value)


def whole(value: object) -> bool:
    """Whether `value` is a whole number, which `True` is not."""
    return isinstance(value, int) and not isinstance(value, bool)
