"""The journal of a batch: where it is, how rows are identified, how inputs are compared."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, FrozenSet, Literal, NamedTuple, Optional, Protocol, Tuple, Union

from flowmaestro_core.store import AsyncStore, Store
from flowmaestro_core.types import ExecutionStatus

Key = Union[int, str]
"""Identifies a row: its index, an `int`, or the `str` of what the caller's `key` returns for it."""

OnUnknown = Literal["error", "start"]


class PathLike(Protocol):
    """A path that is not a `str`, such as a `pathlib.Path`."""

    def __fspath__(self) -> str:
        """Return the path as a `str`."""
        ...


class JournalPlan(NamedTuple):
    """The journal of a batch, and what to do with the rows that it holds.

    Attributes:
        store: the path of an SQLite file, or the caller's store.
        workflow_id: the workflow of all rows.
        key: returns the key of a row; `None` if the index is the key.
        rerun: the statuses of ended executions whose rows are started again.
        settle_after: seconds after which the server lists every execution that it has started.
        redo: the indices of rows that are started again if their inputs differ from the journal's.
        on_unknown: what to do if a lookup cannot show whether a row was started: `error` reports
            the row, `start` starts it again.

    """

    store: Union[str, Store, AsyncStore]
    workflow_id: str
    key: Optional[Callable[[Any], Key]] = None
    rerun: Tuple[ExecutionStatus, ...] = ()
    settle_after: float = 60.0
    on_unknown: OnUnknown = "error"
    redo: FrozenSet[int] = frozenset()

    @property
    def is_locked(self) -> bool:
        """Whether no other process can use the journal, because its file is locked."""
        return isinstance(self.store, str)


def digest_of(encoded: Union[bytes, str]) -> str:
    """Return a digest of JSON, equal for texts that the server stores as the same value.

    It has 32 hexadecimal digits. Keys are sorted and numbers are doubles: the server rounds
    `12345678901234567890`, and sends `1.0` back as `1`. A boolean differs from every number.
    """
    from hashlib import blake2b  # This loads OpenSSL, which only batches with a journal need.

    text = encoded.decode() if isinstance(encoded, bytes) else encoded
    canonical = _CANONICAL.encode(_FLOATS.raw_decode(text)[0])
    if "-0.0" in canonical or "Infinity" in canonical:
        canonical = _CANONICAL.encode(_DOUBLES.raw_decode(text)[0])
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


def _double(digits: str) -> Optional[float]:
    number = float(digits) + 0.0  # JavaScript writes minus zero as 0.
    return number if math.isfinite(number) else None  # It writes infinity as null.


_FLOATS = json.JSONDecoder(parse_int=float)
"""Calls no Python function for a number, unlike `_DOUBLES`. So it takes two thirds of the time."""
_DOUBLES = json.JSONDecoder(parse_int=_double, parse_float=_double)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
