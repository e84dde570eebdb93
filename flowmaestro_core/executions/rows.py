"""The rows of a batch, as they are made of its inputs."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    Optional,
    cast,
)

from flowmaestro_core.errors import (
    FlowMaestroError,
    JournalError,
    ValidationError,
)
from flowmaestro_core.executions.operation import Encode
from flowmaestro_core.executions.outcome import EndedExecution, RunOutcome
from flowmaestro_core.executions.saved_states import SavedRow
from flowmaestro_core.executions.start import Start
from flowmaestro_core.records import Key, digest_of
from flowmaestro_core.store import HEADER_KEY, MAX_KEY_SIZE

_MOST_BITS = 4 * MAX_KEY_SIZE
"""An `int` of more bits has more digits than a key may have: a digit takes less than 4 bits. It is
not written out to be counted, since Python refuses to write more than 4,300 digits."""


class Row(Start):
    """One element of `inputs`, and its start.

    Attributes:
        index: its position in `inputs`.
        inputs: the element.
        body: the body of the request that starts the row; empty while it is not needed.
        is_saved: whether the journal has a state of the row, or the next `Save` keeps one.
        saved_key: the key of its state in the journal.

    """

    __slots__ = ("body", "index", "inputs", "is_saved", "saved_key")

    def __init__(self, index: int, inputs: Any, key: Key) -> None:
        """`key` identifies the row in the journal: its index, or what `key=` returns as a text."""
        super().__init__(key)
        self.index: int = index
        self.inputs: Any = inputs
        self.body: bytes = b""
        self.is_saved: bool = False
        self.saved_key: str = str(key)

    @property
    def name(self) -> str:
        return f"inputs[{self.index}]"

    def outcome(
        self,
        execution: Optional[EndedExecution] = None,
        error: Optional[FlowMaestroError] = None,
        *,
        replayed: bool = False,
    ) -> RunOutcome:
        """Return the outcome of this row, with its ended `execution` and the `error` that it met.

        With neither, the execution still runs. `replayed` says that the outcome was read from the
        journal.
        """
        return RunOutcome(self.index, self.inputs, self.execution_id, execution, error, replayed)

    def saved(self, outcome: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return its state, to be saved. `outcome` is its execution if it has ended, else `None`.

        Does not save it.
        """
        stage = self.stage
        found = self.execution_id if stage in ("started", "ended") else None
        return SavedRow(
            self.saved_key,
            stage,
            self.digest,
            0 if stage == "open" else self.number,  # It will have another one.
            self.reruns,
            self.refusal,
            found,
            outcome,
        ).as_dict()


class RowIterator:
    """Reads the inputs one after another, and makes each a `Row` with its index and key.

    Attributes:
        read: how many rows were read.
        exhausted: whether the end of the inputs was reached.

    """

    def __init__(
        self,
        inputs: Iterable[Any],
        encode: Optional[Encode],
        key: Optional[Callable[[Any], Key]] = None,
    ) -> None:
        self._iterator: Iterator[Any] = iter(inputs)
        self._encode = encode
        self._key = key
        self._seen: Dict[str, int] = {}
        """The index of the row with each key, to report a key that occurs twice."""
        self.read: int = 0
        self.exhausted: bool = False

    def next(self) -> Optional[Row]:
        """Return the next row, or `None` at the end.

        Raises the exceptions of the caller's iterator and key function, `TypeError` or `ValueError`
        for a key that cannot be used, and `JournalError` if two rows have the same key.
        """
        for inputs in self._iterator:
            index = self.read
            key = index if self._key is None else self._key_of(index, inputs, self._key)
            self.read += 1
            return Row(index, inputs, key)
        self.exhausted = True
        return None

    def prepare(self, row: Row) -> None:
        """Encode the body of a row, and compute its digest.

        Raises `ValidationError` (code `invalid_input`), which names the row, if the row cannot be
        encoded, or if its digest was known and is another one now. After such an error, the digest
        of the row is equal to that of no row that can be sent.
        """
        read, row.digest = row.digest, "cannot be sent"
        try:
            body = cast("Encode", self._encode)(row.inputs)
            digest = digest_of(body)
        except Exception as cause:  # A mapping class of the caller may raise any exception.
            said = cause if isinstance(cause, (TypeError, ValueError)) else repr(cause)
            raise _unsendable(row, said) from cause
        if read not in ("", digest):
            raise _unsendable(row, "it has changed since it was read")
        row.body, row.digest = body, digest

    def _key_of(self, index: int, inputs: Any, key: Callable[[Any], Key]) -> Key:
        made = key(inputs)
        if isinstance(made, bool) or not isinstance(made, (int, str)):
            kind = type(made).__name__  # pyright: ignore[reportUnreachable]
            raise TypeError(f"key must make a str or an int of inputs[{index}], not {kind}")
        if isinstance(made, int) and made.bit_length() > _MOST_BITS:
            raise _too_long(index, f"more than {MAX_KEY_SIZE}")
        # Not `str(made)`, which for a member of an enumeration depends on the version of Python.
        text = str.__str__(made) if isinstance(made, str) else int.__repr__(made)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            said = f"the key of inputs[{index}] holds a lone surrogate, which UTF-8 cannot express"
            raise ValueError(said) from None
        if size > MAX_KEY_SIZE:
            raise _too_long(index, size)
        if text == HEADER_KEY:
            raise ValueError(f"the key of inputs[{index}] must not be {text!r}: it is reserved")
        if text in self._seen:
            raise JournalError(
                f"inputs[{self._seen[text]}] and inputs[{index}] have the same key {text!r}",
                "duplicate_key",
            )
        self._seen[text] = index
        return text


def _too_long(index: int, size: object) -> ValueError:
    return ValueError(
        f"the key of inputs[{index}] has {size} bytes; at most {MAX_KEY_SIZE} are allowed: "
        "pass a digest of it"
    )


def _unsendable(row: Row, why: object) -> ValidationError:
    error = ValidationError(f"inputs[{row.index}] cannot be sent: {why}", "invalid_input")
    error.status_code = None  # Nothing was sent, so there is no response.
    return error
