"""What callers get: the ended execution, and the outcomes and the progress of a batch."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from heapq import nsmallest
from typing import (
    Any,
    Coroutine,
    Dict,
    Iterable,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    TypeVar,
    cast,
)

from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.handles import AsyncItems, SyncItems
from flowmaestro_core.http.secrets import REDACTED, is_secret_member
from flowmaestro_core.payloads.json_values import hidden_member
from flowmaestro_core.types import Execution

Self = TypeVar("Self")


class EndedExecution(Dict[str, Any]):
    """An execution as a dict: JSON-serialisable, picklable, equal to the plain dict.

    At a prompt it says its status, how long it took, and its outputs in short, without what may be
    a credential; `print` shows all. A notebook shows its timeline, too.
    """

    seen_events: Optional[Tuple[Mapping[str, Any], ...]] = None
    """What its run remembers of its events; `None` where nobody followed them."""

    def __repr__(self) -> str:
        from flowmaestro_core.showing.texts import duration_of

        took = duration_of(self)
        name, said = (_SHORT.repr(str(self.get(key)))[1:-1] for key in ("id", "status"))
        said += "" if took is None else f" in {took}"
        for key in ("outputs", "error"):
            if self.get(key) is not None:
                said += f", {key} {_SHORT.repr(self[key])}"
        return f"<Execution {name}: {said}>"

    def __str__(self) -> str:
        return super().__repr__()

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import execution_html

        return execution_html(self, self.seen_events)


class _Short(reprlib.Repr):
    """A short repr without what may be a credential. It visits no value that it does not show."""

    def repr_dict(self, x: Dict[Any, Any], level: int) -> str:
        first = nsmallest(self.maxdict + 1, x, key=str)
        hides = {key for key in first if x[key] is not None and is_secret_member(str(key))}
        shown = {str(key): REDACTED if key in hides else x[key] for key in first}
        return super().repr_dict(shown, level)

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(hidden_member("", x), level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def ended(
    execution: Mapping[str, Any], seen_events: Optional[Iterable[Mapping[str, Any]]] = None
) -> Execution:
    """An execution that has ended, as its caller gets it."""
    made = EndedExecution(execution)
    if seen_events is not None:
        made.seen_events = tuple(seen_events)
    return cast("Execution", made)


@dataclass(frozen=True, repr=False)
class RunOutcome:
    """What became of one row of a batch.

    Attributes:
        index: the row's place in what was given, from 0.
        inputs: the row itself, as it was given; `None` for `wait_many`.
        execution_id: the execution of this row, `None` where none is known.
        execution: the ended execution, whatever its status; `None` where it was not seen to end.
        error: what went wrong with this row, else `None`. A failed execution is no error.
        replayed: whether it was read from the journal. It was handed over before, or the process
            died before that: it does not mean that you handled it.

    """

    index: int
    inputs: Any = None
    execution_id: Optional[str] = None
    execution: Optional[Execution] = None
    error: Optional[FlowMaestroError] = None
    replayed: bool = False

    def __repr__(self) -> str:
        """Its place, its execution and what became of it; inputs and outputs may be long."""
        ended = "running" if self.execution is None else self.execution["status"]
        said = type(self.error).__name__ if self.error is not None else ended
        name = f" {self.execution_id}" if self.execution_id else ""
        return f"<RunOutcome {self.index}:{name} {said}{', replayed' if self.replayed else ''}>"

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import outcome_html

        return outcome_html(self)

    @property
    def ok(self) -> bool:
        """Whether the execution completed."""
        ended = self.execution
        return self.error is None and ended is not None and ended["status"] == "completed"

    @property
    def outputs(self) -> Optional[Dict[str, Any]]:
        """The execution's outputs, `None` where there are none."""
        return None if self.execution is None else self.execution["outputs"]

    def result(self) -> Execution:
        """The ended execution whatever its status, as `workflows.run` gives it back.

        Raises `error` if there is one.
        """
        if self.error is not None or self.execution is None:
            raise self.error or FlowMaestroError("This execution has not ended", "not_ended")
        return self.execution


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch has come.

    Attributes:
        done: how many rows have an outcome, failed ones included.
        failed: how many of these are not `ok`.
        in_flight: how many executions are running.
        total: how many rows there are, `None` where that is not known.
        seconds_left: an estimate, from the pace so far and from what the key's rate limit
            allows; `None` where nothing can be said.
        in_doubt: with a journal, how many rows may have been started; they are settled last.

    """

    done: int
    failed: int
    in_flight: int
    total: Optional[int]
    seconds_left: Optional[float]
    in_doubt: int = 0


class _Runs(Protocol):
    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """The executions that run, or have ended and were not handed over; each has its id.

        Also after `close()`, and after an exception has ended the iteration.
        """
        ...

    @property
    def progress(self) -> BatchProgress:
        """How far the batch has come, at any time and from any thread."""
        ...

    def __len__(self) -> int:
        """Return how many rows there are in all; `TypeError` where that is not known."""
        ...


class RunOutcomes(_Runs, SyncItems[RunOutcome], Protocol):
    """Outcomes as they come. Iterate over it; close it, or use `with`, to leave early.

    What runs when it is closed goes on, and is in `in_flight`. Where another thread closes it
    during a callback, the journal is free when the callback has returned.
    """

    def __enter__(self: Self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class AsyncRunOutcomes(_Runs, AsyncItems[RunOutcome], Protocol):
    """Outcomes as they come. Iterate with `async for`; `async with` or `close()` to leave early.

    What runs when it is closed goes on, and is in `in_flight`.
    """

    def __aenter__(self: Self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]: ...
    def close(self) -> Coroutine[Any, Any, None]:
        """As `aclose`."""
        ...
