"""A hashable value for all that a world and its machines know, with times relative to now."""

from __future__ import annotations

import types
from collections import OrderedDict, deque
from enum import Enum
from functools import partial
from typing import Any, Dict, Hashable, List

from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import ClientOptions

_NEAR = 100_000.0
"""A float as near to now is a time. Durations and counts are far below: now begins at 1,000,000."""
_FIXED = (Operation, SecretScrubber, ClientOptions)
"""These do not change in a scenario."""
_CODE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, partial, type)
_PLAIN = frozenset((str, bytes, int, bool, type(None)))


def fingerprint(now: float, *values: Any) -> Hashable:
    """Return a value that is equal for two worlds only if they go on alike."""
    return tuple(_walk(value, now, {}) for value in values)


def _walk(value: Any, now: float, met: Dict[int, int]) -> Hashable:
    kind = type(value)
    if kind in _PLAIN or isinstance(value, Enum):
        return value
    if kind is float:
        return ("at", round(value - now, 3)) if abs(value - now) < _NEAR else value
    if isinstance(value, (list, tuple, deque)):
        return tuple(_walk(it, now, met) for it in value)
    if isinstance(value, (dict, OrderedDict)):
        return tuple((_walk(k, now, met), _walk(it, now, met)) for k, it in value.items())
    if isinstance(value, (set, frozenset)):
        return frozenset(_walk(it, now, met) for it in value)
    if isinstance(value, (*_FIXED, *_CODE)):
        return type(value).__name__
    if id(value) in met:
        return ("met", met[id(value)])
    met[id(value)] = len(met)
    if isinstance(value, Context):
        return (
            _walk(value.budget, now, met),
            _walk(value.pace, now, met),
            value.server.has_answered,
        )
    if isinstance(value, (Request, Response, Headers)):
        return str(value)
    if isinstance(value, BaseException):
        return (type(value).__name__, str(value), getattr(value, "status_code", None))
    return (type(value).__name__, *_attributes(value, now, met))


def _attributes(value: Any, now: float, met: Dict[int, int]) -> List[Hashable]:
    found: List[Hashable] = []
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        found += [(name, _walk(getattr(value, name, None), now, met)) for name in names]
    if hasattr(value, "__dict__"):
        found += [(name, _walk(it, now, met)) for name, it in vars(value).items()]
    return found
