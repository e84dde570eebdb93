"""A short digest of all that a world and its machines know, with times relative to now.

Equal digests mean that the world goes on alike, so a path that comes to a known one is left. What
is left out, below, can change nothing that happens: the digest is computed at every step, and it is
what limits the paths a second.
"""

from __future__ import annotations

import marshal
import types
from enum import Enum
from functools import partial
from hashlib import blake2b
from operator import length_hint
from typing import Any, Callable, Dict, List, Tuple

from flowmaestro_core.context import Context
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.executions.saved_states import BatchIdentity, Header, SavedStart
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.policy.retry import Retries
from flowmaestro_core.records import JournalPlan

_NEAR = 100_000.0
"""A float as near to now is a time. Durations and counts are far below: now begins at 1,000,000."""
_ENOUGH = 100
"""Tokens of a retry budget. A path has at most some ten retries, and each costs 14 at most."""
_FOR_PEOPLE = frozenset(("_told_at", "_settles_in"))
"""Attributes that only the progress of a batch shows."""
_KINDS: Dict[Tuple[Any, ...], int] = {}
"""A number for each class and the attributes that an object of it has."""
_CONSTANT = frozenset(("v", "api_root", "workflow_id", "token", "keyed"))
"""Keys of a saved state whose values are the same in every path of a scenario."""
_FIXED = (
    Operation,
    SecretScrubber,
    ClientOptions,
    JournalPlan,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    partial,
    type,
)
"""These do not change in a scenario. A function that closes over a machine reads its state, which
is in the digest anyway."""
_PLAIN = frozenset((str, bytes, int, bool, type(None)))
_Handler = Callable[["_Walk", Any], Any]


def fingerprint(now: float, serial: int, *values: Any) -> bytes:
    """Return 16 bytes that are equal for two worlds only if they go on alike.

    `serial` is that of the state in the store: the serial numbers of machines are relative to it.
    """
    walk = _Walk(now, serial)
    # Version 0 of the format writes no references, so equal values have equal bytes.
    return blake2b(marshal.dumps([walk.of(it) for it in values], 0), digest_size=16).digest()


class _Walk:
    """One walk through a world: makes plain tuples of all values."""

    __slots__ = ("_met", "now", "serial")

    def __init__(self, now: float, serial: int) -> None:
        self.now = now
        self.serial = serial
        self._met: Dict[int, int] = {}

    def of(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return self.time(value)
        return (_HANDLERS.get(kind) or _handler_for(kind))(self, value)

    def time(self, value: float) -> Any:
        distance = value - self.now
        return (round(distance, 3),) if -_NEAR < distance < _NEAR else value

    def met(self, value: Any) -> int:
        """Return the number of an object that was met before; if it was not, number it, and -1."""
        number = self._met.get(id(value), -1)
        if number < 0:
            self._met[id(value)] = len(self._met)
        return number


def _handler_for(kind: type) -> _Handler:
    """Return what makes a tuple of values of a type, and remember it."""
    if issubclass(kind, _FIXED):
        handler: _Handler = _nothing
    elif issubclass(kind, Enum):
        handler = _enum
    elif issubclass(kind, dict):
        handler = _dict
    elif issubclass(kind, (set, frozenset)):
        handler = _set
    elif issubclass(kind, BaseException):
        handler = _error
    elif hasattr(kind, "__next__"):
        handler = _iterator
    elif hasattr(kind, "__iter__"):
        handler = _sequence
    else:
        names = [name for it in kind.__mro__ for name in vars(it).get("__slots__", ())]
        handler = partial(_slots, names) if names else _attributes
    _HANDLERS[kind] = handler
    return handler


def _nothing(walk: _Walk, value: Any) -> Any:
    return None


def _enum(walk: _Walk, value: Enum) -> Any:
    return value.value


def _sequence(walk: _Walk, value: Any) -> Any:
    of = walk.of
    return tuple([it if type(it) in _PLAIN else of(it) for it in value])


def _iterator(walk: _Walk, value: Any) -> Any:
    return length_hint(value)


def _set(walk: _Walk, value: Any) -> Any:
    return tuple(sorted(walk.of(it) for it in value))


def _dict(walk: _Walk, value: Dict[Any, Any]) -> Any:
    found: List[Any] = []
    for key, it in value.items():
        if key in _CONSTANT:
            continue
        found.append(key if type(key) in _PLAIN else walk.of(key))
        if key == "serial":
            found.append(it - walk.serial)
        elif key == "outcome":  # An ended execution.
            found.append(it["id"])
        else:
            found.append(it if type(it) in _PLAIN else walk.of(it))
    return tuple(found)


def _error(walk: _Walk, value: Any) -> Any:
    attempts = getattr(value, "attempts", ())
    return (
        type(value).__name__,
        str(value),
        getattr(value, "status_code", None),
        str(attempts[-1].outcome) if attempts else None,
    )


def _slots(names: List[str], walk: _Walk, value: Any) -> Any:
    number = walk.met(value)
    if number >= 0:
        return (number,)
    of = walk.of
    return tuple([of(getattr(value, name, None)) for name in names])


def _attributes(walk: _Walk, value: Any) -> Any:
    number = walk.met(value)
    if number >= 0:
        return (number,)
    of, held = walk.of, vars(value)
    # The names of the attributes that are set, as a number: some are set late.
    kind = _KINDS.setdefault((type(value), *held), len(_KINDS))
    return (
        kind,
        *[
            it if type(it) in _PLAIN else of(it)
            for name, it in held.items()
            if name not in _FOR_PEOPLE
        ],
    )


def _context(walk: _Walk, value: Context) -> Any:
    return (value.budget.tokens >= _ENOUGH, value.server.has_answered)


def _outcomes(walk: _Walk, value: OutcomeQueue) -> Any:
    """Return what is not statistics."""
    return (value.next_index, walk.of(value.undelivered))


def _retries(walk: _Walk, value: Retries) -> Any:
    return (value.attempt, value._unlimited)


def _header(walk: _Walk, value: Any) -> Any:
    serial: int = value.serial - walk.serial
    return (serial, [walk.of(it) for it in value._replace(token="", serial=0)])


def _request(walk: _Walk, value: Request) -> Any:
    return (value.method, value.url, value.body)


def _response(walk: _Walk, value: Response) -> Any:
    return (value.status, value.body)


_HANDLERS: Dict[type, _Handler] = {
    Context: _context,
    Retries: _retries,
    Header: _header,
    SavedStart: _header,
    Request: _request,
    Response: _response,
    Headers: _nothing,
    OutcomeQueue: _outcomes,
    BatchIdentity: _nothing,
    Pace: _nothing,  # Without rate limits in the headers, it delays nothing.
}
