"""The operations on executions: poll one, run a workflow, follow many.

`Run` and `Batch` hold functions, so no two of them are equal. They have no generated `__eq__` and
`__repr__`: generating those would cost each program a millisecond at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Coroutine, Dict, Iterable, Mapping, Optional, Tuple, TypeVar, cast

from flowmaestro_core.calls.call import Call
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.executions.outcome import (
    AsyncRunOutcomes,
    BatchProgress,
    EndedExecution,
    RunOutcome,
    RunOutcomes,
)
from flowmaestro_core.operation import HandleKind, Operation
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.types import Execution, ExecutionEvent

R = TypeVar("R")

Encode = Callable[[Any], bytes]
"""Returns the body of the start of a row; raises if JSON cannot express the row."""
Start = Callable[[bytes], Call[Any]]
"""Returns the call that starts an execution, given its body."""
PageOf = Callable[[int, int], Call[Any]]
"""Returns the call for a page of the workflow's executions, given its number and size."""


@dataclass(frozen=True)
class Poll(Operation[EndedExecution, Coroutine[Any, Any, EndedExecution]]):
    """The wait for one execution: polls it until it has ended, or `timeout` seconds have passed.

    The last poll may take one second more. With `exact`, no poll is sent sooner than
    `poll_interval` after the one before it. Else the first polls come sooner.
    """

    execution_id: str
    call: Call[Any]
    poll_interval: float
    timeout: float
    listener: Optional[Callable[[Execution], Any]] = None
    exact: bool = False

    def callbacks(self) -> Mapping[str, Optional[Callable[..., Any]]]:
        return {"on_poll": self.listener}


@dataclass(eq=False, repr=False)
class DurableStart(Call[R]):
    """The start of an execution with a checkpoint, so that a repeated start finds the execution.

    Attributes:
        checkpoint: stores the state of the start.
        workflow_id: the workflow.
        attach: builds the call that gets an execution, given its id.
        page_of: builds the call for a page of the list in which the execution is looked for.

    """

    checkpoint: Optional[Checkpoint] = None
    workflow_id: str = ""
    attach: Optional[Callable[[str], Call[Any]]] = None
    page_of: Optional[PageOf] = None

    def callbacks(self) -> Mapping[str, Optional[Callable[..., Any]]]:
        kept = cast("Checkpoint", self.checkpoint)
        return {"load": kept.load, "save": kept.save}


@dataclass(eq=False, repr=False)
class Run(Operation[EndedExecution, Coroutine[Any, Any, EndedExecution]]):
    """One run of a workflow, followed to its end within `timeout` seconds.

    `execute` starts the execution. `events` and `waiting` return the operations of its event stream
    and of the wait for it, given its id. `checkpoint` is that of `execute`, and stores the state of
    the start; `None` if there is none.
    """

    execute: Call[Any]
    events: Callable[[str], Events[ExecutionEvent]]
    waiting: Callable[[str], Poll]
    timeout: float
    listener: Optional[Callable[[ExecutionEvent], Any]] = None
    checkpoint: Optional[Checkpoint] = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoint = self.execute.checkpoint

    def callbacks(self) -> Mapping[str, Optional[Callable[..., Any]]]:
        return {"on_event": self.listener, **self.execute.callbacks()}


@dataclass(eq=False, repr=False)
class Batch(Operation[RunOutcomes, AsyncRunOutcomes]):
    """Many executions to follow to their ends. With `inputs`, each is started for a row.

    Attributes:
        waiting: returns the wait for one execution, given its id.
        timeout: seconds for each execution, from when it is first followed; and seconds for each
            start, from its turn.
        execution_ids: executions that were started before. All are followed from the beginning.
        inputs: the rows to start executions for. An iterator is read only a little ahead of the
            starts, so it may be endless.
        encode: returns the body of the request that starts a row, given the row.
        start: returns the call that starts a row, given that body.
        page_of: returns the call for a page of the list in which rows in doubt are looked up.
        workflow_id: the workflow of the executions; `None` if it is not known.
        listed: returns the call for a page of a workflow's executions, as the server sent them,
            given the workflow's id and the number and size of the page.
        poll_interval: seconds between two polls; `None` for those of `executions/watch.py`.
        concurrency: no row is started while this many executions are in flight.
        ordered: whether outcomes are delivered in the order of the rows.
        total: the number of rows; `None` if it is not known.
        on_start, progress: the callbacks of the caller.
        journal: the journal in which the rows are recorded, or `None`.

    """

    handle = HandleKind.OUTCOMES

    waiting: Callable[[str], Poll]
    listed: Callable[[str, int, int], Call[Any]]
    timeout: float
    execution_ids: Tuple[str, ...] = ()
    inputs: Iterable[Any] = ()
    encode: Optional[Encode] = None
    start: Optional[Start] = None
    page_of: Optional[PageOf] = None
    workflow_id: Optional[str] = None
    poll_interval: Optional[float] = None
    concurrency: int = 1
    ordered: bool = False
    total: Optional[int] = None
    on_start: Optional[Callable[[RunOutcome], Any]] = None
    progress: Optional[Callable[[BatchProgress], Any]] = None
    journal: Optional[JournalPlan] = None

    def callbacks(self) -> Mapping[str, Optional[Callable[..., Any]]]:
        given: Dict[str, Any] = {"on_start": self.on_start, "progress": self.progress}
        if self.journal is not None and not self.journal.is_locked:
            for name in ("load", "save", "known"):
                given[f"journal.{name}"] = getattr(self.journal.store, name)
        return given
