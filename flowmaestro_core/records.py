"""What a batch has a journal keep: one record for each row, of an execution's start and end."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, FrozenSet, Literal, NamedTuple, Optional, Protocol, Tuple, Union

from flowmaestro_core.types import ExecutionStatus

Key = Union[int, str]
"""What tells a row from the others: its index, or what the caller's `key` makes of it."""

RowState = Literal["open", "starting", "started", "ended"]
"""`starting` is written before the request goes out; an `open` row is free to be started."""

OnUnknown = Literal["error", "start"]


class PathLike(Protocol):
    """A path that is not text, such as a `pathlib.Path`."""

    def __fspath__(self) -> str:
        """The path as text."""
        ...


class JournalRow(NamedTuple):
    """What is recorded of one row.

    Attributes:
        key: which row.
        digest: of its inputs, see `digest_of`.
        state: how far it has come.
        reruns: how often it was started before on the caller's wish.
        order: of its start; of two starts, the later one has the greater number.
        execution_id: its execution, once that is known.
        execution: how that ended.
        refusal: a digest of the server error that was shown to start nothing, see
            `starts.refusal_of`; `b""` if there is none.

    """

    key: Key
    digest: bytes
    state: RowState
    reruns: int = 0
    order: int = 0
    execution_id: Optional[str] = None
    execution: Any = None
    refusal: bytes = b""


class Recalled(NamedTuple):
    """What a journal tells after each `Record`.

    Attributes:
        rows: those with the `keys` of the `Record`, as far as there are any.
        orders: of the starts of its `execution_ids`, as far as the journal knows them.
        known: how many rows it held when it was opened; without a key function, up to which index.
        last_order: the greatest `order` that it held then.
        age: seconds since the batch began.

    """

    rows: Tuple[JournalRow, ...] = ()
    orders: Tuple[Tuple[str, int], ...] = ()
    known: int = 0
    last_order: int = 0
    age: float = 0.0


class JournalPlan(NamedTuple):
    """Which journal a batch keeps, and how it deals with what it finds there.

    Attributes:
        path: of the file.
        workflow_id: which workflow it is about.
        key: makes a row's key from the row; by default a row is known by its index.
        rerun: the statuses of ended executions whose rows are started again.
        settle_after: seconds from a start until it can be relied on to be listed.
        redo: the indices of rows that are started again if their inputs differ from the journal's.
        on_unknown: what happens to rows of which nobody knows whether they were started.

    """

    path: str
    workflow_id: str
    key: Optional[Callable[[Any], Key]] = None
    rerun: Tuple[ExecutionStatus, ...] = ()
    settle_after: float = 60.0
    on_unknown: OnUnknown = "error"
    redo: FrozenSet[int] = frozenset()


def digest_of(encoded: Union[bytes, str]) -> bytes:
    """A digest of JSON that is the same for all that the server takes for the same.

    Keys are sorted and numbers are doubles: the server rounds `12345678901234567890`, and sends
    `1.0` back as `1`. Booleans are no numbers.
    """
    from hashlib import blake2b  # loads OpenSSL, which only a journal is worth

    text = encoded.decode() if isinstance(encoded, bytes) else encoded
    canonical = _CANONICAL.encode(_DOUBLES.raw_decode(text)[0])
    return blake2b(canonical.encode(), digest_size=16).digest()


def _double(digits: str) -> Optional[float]:
    number = float(digits) + 0.0  # JavaScript writes minus zero as 0
    return number if math.isfinite(number) else None  # and what is beyond a double as null


_DOUBLES = json.JSONDecoder(parse_int=_double, parse_float=_double)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
