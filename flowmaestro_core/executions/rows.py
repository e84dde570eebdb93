"""The rows of a batch, as they are read from what the caller gave."""

from __future__ import annotations

import hashlib
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, cast

from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import FlowMaestroError, JournalError, ValidationError
from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.records import JournalRow, Key, RowState, digest_of
from flowmaestro_core.types import Execution

Build = Callable[[Any], Call[Any]]
"""Makes the call that starts an execution from a row; raises where the row cannot be sent."""


class Row:
    """One row, and what is known of its execution."""

    __slots__ = ("call", "digest", "execution_id", "index", "inputs", "key", "reruns", "settled")

    def __init__(self, index: int, inputs: Any, key: Key) -> None:
        self.index = index
        self.inputs = inputs
        self.key = key
        self.call: Optional[Call[Any]] = None
        self.digest = b""
        self.reruns = 0
        self.execution_id: Optional[str] = None
        self.settled = 0
        """How often it was in doubt and a look-up did not find it."""

    def outcome(
        self,
        execution: Optional[Execution] = None,
        error: Optional[FlowMaestroError] = None,
        *,
        replayed: bool = False,
    ) -> RunOutcome:
        """What became of it."""
        return RunOutcome(self.index, self.inputs, self.execution_id, execution, error, replayed)

    def record(self, state: RowState, execution: Optional[Execution] = None) -> JournalRow:
        """What a journal is to keep of it."""
        found = self.execution_id if state in ("started", "ended") else None
        return JournalRow(self.key, self.digest, state, self.reruns, found, execution)

    @property
    def token(self) -> str:
        """What tells its start from all others of the batch."""
        key = self.key
        name = (
            key
            if isinstance(key, int)
            else hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        )
        return f"{name}-{self.reruns}" if self.reruns else str(name)


class RowSource:
    """Reads rows one after another.

    Attributes:
        inputs: what the caller gave.
        build: makes a row's call.
        read: how many rows were read.
        exhausted: whether there are no more.
        broken: what ended the reading early: an exception of the caller's own, or a key that is
            there twice.

    """

    def __init__(
        self,
        inputs: Iterable[Any],
        build: Optional[Build],
        key: Optional[Callable[[Any], Key]] = None,
    ) -> None:
        self.inputs = inputs
        self.build = build
        self._iterator: Iterator[Any] = iter(inputs)
        self._key = key
        self._seen: Dict[str, int] = {}
        self.read = 0
        self.exhausted = False
        self.broken: Optional[Exception] = None

    def next(self) -> Optional[Row]:
        """The next row, if there is one."""
        if self.exhausted:
            return None
        try:
            for inputs in self._iterator:
                index = self.read
                key = index if self._key is None else self._key_of(index, inputs, self._key)
                self.read += 1
                return Row(index, inputs, key)
        except Exception as error:  # of the caller's own iterator or key function
            self.broken = error
        self.exhausted = True
        return None

    def prepare(self, row: Row) -> None:
        """Make a row's call and its digest.

        Raises `ValidationError` (code `invalid_input`), naming the row.
        """
        try:
            row.call = cast("Build", self.build)(row.inputs)
            row.digest = digest_of(row.call.body)
        except Exception as cause:  # of a mapping of the caller's own, too
            said = cause if isinstance(cause, (TypeError, ValueError)) else repr(cause)
            message = f"inputs[{row.index}] cannot be sent: {said}"
            error = ValidationError(message, "invalid_input")
            error.status_code = None  # nothing was sent, so nobody answered
            raise error from cause

    def _key_of(self, index: int, inputs: Any, key: Callable[[Any], Key]) -> Key:
        made = key(inputs)
        if isinstance(made, bool) or not isinstance(made, (int, str)):
            kind = type(made).__name__  # pyright: ignore[reportUnreachable]
            raise TypeError(f"key must make a str or an int of inputs[{index}], not {kind}")
        text = str(made)
        if text in self._seen:
            raise JournalError(
                f"inputs[{self._seen[text]}] and inputs[{index}] have the same key {text!r}",
                "duplicate_key",
            )
        self._seen[text] = index
        return text
