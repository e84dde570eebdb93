"""The records of a journal: for each row of a batch, the start and the end of its execution."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, FrozenSet, Literal, NamedTuple, Optional, Protocol, Tuple, Union

from flowmaestro_core.types import ExecutionStatus

Key = Union[int, str]
"""Identifies a row: its index, an `int`, or the `str` of what the caller's `key` returns for it."""

RowState = Literal["open", "starting", "started", "ended"]
"""`open`: not started, or the start has failed for certain, or the execution has failed for a lack
of credits. `starting`: written before the request is sent, so after a crash the row is in doubt.
`started`: the id of its execution is known. `ended`: the execution has ended."""

OnUnknown = Literal["error", "start"]


class PathLike(Protocol):
    """A path that is not a `str`, such as a `pathlib.Path`."""

    def __fspath__(self) -> str:
        """Return the path as a `str`."""
        ...


class JournalRow(NamedTuple):
    """The record of one row.

    Attributes:
        key: identifies the row.
        digest: of its inputs; equal for inputs that the server stores as the same (`digest_of`).
        state: `open`, `starting`, `started` or `ended` (`RowState`).
        reruns: how often `rerun` or `redo` has started the row again.
        order: the number of its start; of two starts, the later one has the greater number.
        execution_id: the id of its execution; `None` before that is known.
        execution: the ended execution; `None` before it has ended.
        harmless_failure: a digest of the server error that was shown to start nothing
            (`failure_digest` in `executions/starts.py`); `b""` if there is none.

    """

    key: Key
    digest: bytes
    state: RowState
    reruns: int = 0
    order: int = 0
    execution_id: Optional[str] = None
    execution: Any = None
    harmless_failure: bytes = b""


class Recalled(NamedTuple):
    """The reply of a journal to a `Record`.

    Attributes:
        rows: the records of the rows with the `keys` of the `Record`; unknown keys are left out.
            After a `brief` one, the records need not be whole.
        orders: pairs of an execution id and the number of its start, for the `execution_ids` of
            the `Record`; unknown ids are left out.
        known: how many rows the journal held when it was opened; without a key function, the
            index after the last one.
        last_order: the greatest `order` that the journal held when it was opened; 0 if it held
            none.
        age: seconds since the journal was created, by the wall clock. Infinity if the journal holds
            the baseline, because the ages of executions do not matter then, or if the wall clock
            was set back to a time before the journal was created.

    """

    rows: Tuple[JournalRow, ...] = ()
    orders: Tuple[Tuple[str, int], ...] = ()
    known: int = 0
    last_order: int = 0
    age: float = 0.0


class JournalPlan(NamedTuple):
    """The journal of a batch, and what to do with the rows that it holds.

    Attributes:
        path: of the file.
        workflow_id: the workflow of all rows.
        key: returns the key of a row; `None` if the index is the key.
        rerun: the statuses of ended executions whose rows are started again.
        settle_after: seconds after which the server lists every execution that it has started.
        redo: the indices of rows that are started again if their inputs differ from the journal's.
        on_unknown: what to do if a lookup cannot show whether a row was started: `error` reports
            the row, `start` starts it again.

    """

    path: str
    workflow_id: str
    key: Optional[Callable[[Any], Key]] = None
    rerun: Tuple[ExecutionStatus, ...] = ()
    settle_after: float = 60.0
    on_unknown: OnUnknown = "error"
    redo: FrozenSet[int] = frozenset()


def digest_of(encoded: Union[bytes, str]) -> bytes:
    """Return a digest of JSON, equal for texts that the server stores as the same value.

    Keys are sorted and numbers are doubles: the server rounds `12345678901234567890`, and sends
    `1.0` back as `1`. A boolean differs from every number.
    """
    from hashlib import blake2b  # This loads OpenSSL, which only batches with a journal need.

    text = encoded.decode() if isinstance(encoded, bytes) else encoded
    canonical = _CANONICAL.encode(_DOUBLES.raw_decode(text)[0])
    return blake2b(canonical.encode(), digest_size=16).digest()


def _double(digits: str) -> Optional[float]:
    number = float(digits) + 0.0  # JavaScript writes minus zero as 0.
    return number if math.isfinite(number) else None  # It writes infinity as null.


_DOUBLES = json.JSONDecoder(parse_int=_double, parse_float=_double)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
