"""What a batch hands over: one outcome for each row, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    Any,
    Coroutine,
    Dict,
    Optional,
    Protocol,
    Tuple,
    TypeVar,
)

from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.handles import AsyncItems, SyncItems
from flowmaestro_core.types import Execution

Self = TypeVar("Self")


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

    """

    done: int
    failed: int
    in_flight: int
    total: Optional[int]
    seconds_left: Optional[float]


class _Runs(Protocol):
    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """The executions that run, or have ended and were not handed over; each has its id.

        Also after `close()`, and after an exception has ended the iteration.
        """
        ...

    def __len__(self) -> int:
        """How many rows there are in all; `TypeError` where that is not known."""
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


class Outbox:
    """Outcomes that have come, until they are handed over: as they come, or `ordered`."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._waiting: Dict[int, RunOutcome] = {}
        self.next_index = 0
        """Of an ordered batch: which row is handed over next."""
        self.done = 0
        self.failed = 0

    def put(self, outcome: RunOutcome) -> None:
        """An outcome has come."""
        self._waiting[outcome.index] = outcome

    def take(self, *, all_have_come: bool = False) -> Optional[RunOutcome]:
        """The next one to hand over, if it is there.

        When `all_have_come`, rows without an outcome are passed over.
        """
        if not self._waiting:
            return None
        index = next(iter(self._waiting))
        if self._ordered:
            index = min(self._waiting) if all_have_come else self.next_index
            if index not in self._waiting:
                return None
            self.next_index = index + 1
        outcome = self._waiting.pop(index)
        self.done += 1
        self.failed += not outcome.ok
        return outcome

    @property
    def kept(self) -> Tuple[RunOutcome, ...]:
        """Those that have not been handed over."""
        return tuple(self._waiting.values())
