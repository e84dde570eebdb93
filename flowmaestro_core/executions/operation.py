"""The operations on executions; each machine is loaded when it is made.

`Run` and `Batch` hold functions, so that no two are equal. To generate fewer methods for them saves
a millisecond of each program's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Coroutine, Iterable, Optional, Tuple

from flowmaestro_core.calls.call import Call
from flowmaestro_core.executions.outcome import (
    AsyncRunOutcomes,
    BatchProgress,
    RunOutcome,
    RunOutcomes,
)
from flowmaestro_core.operation import HandleKind, Operation
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.types import Execution, ExecutionEvent

Encode = Callable[[Any], bytes]
"""Makes of a row the body of its start; raises where the row cannot be sent."""
Start = Callable[[bytes], Call[Any]]
"""Makes the call that starts an execution, of its body."""
PageOf = Callable[[int, int], Call[Any]]
"""The call for one page of the workflow's executions: its number, and how many are on one."""


@dataclass(frozen=True)
class Poll(Operation[Execution, Coroutine[Any, Any, Execution]]):
    """Poll one execution until it has ended."""

    execution_id: str
    call: Call[Any]
    poll_interval: float
    timeout: float
    listener: Optional[Callable[[Execution], Any]] = None


@dataclass(eq=False, repr=False)
class Run(Operation[Execution, Coroutine[Any, Any, Execution]]):
    """One run of a workflow, followed to its end within `timeout` seconds.

    `events` and `waiting` build, for an execution's id, what follows it.
    """

    execute: Call[Any]
    events: Callable[[str], Events[ExecutionEvent]]
    waiting: Callable[[str], Poll]
    timeout: float
    listener: Optional[Callable[[ExecutionEvent], Any]] = None


@dataclass(eq=False, repr=False)
class Batch(Operation[RunOutcomes, AsyncRunOutcomes]):
    """Follow many executions to their ends.

    Attributes:
        waiting: builds the wait for one execution, given its id.
        timeout: seconds that each execution may take from its start, and each start from its turn.
        execution_ids: what runs already. All of it is in flight from the beginning.
        inputs: the rows for each of which one execution is started. Read only while there is
            room, so it may be endless.
        encode, start: make the body of a start from a row, and the call from that.
        page_of: makes the call for a page of the list that rows in doubt are looked for in.
        concurrency: how many executions may be in flight before another one is started.
        ordered: hand outcomes over in the order of the rows.
        total: how many rows there are, where that is known.
        on_start, progress: the caller's callbacks.
        listener: one of them, if there is any.
        journal: which journal to keep.

    """

    handle = HandleKind.OUTCOMES

    waiting: Callable[[str], Poll]
    timeout: float
    execution_ids: Tuple[str, ...] = ()
    inputs: Iterable[Any] = ()
    encode: Optional[Encode] = None
    start: Optional[Start] = None
    page_of: Optional[PageOf] = None
    concurrency: int = 1
    ordered: bool = False
    total: Optional[int] = None
    on_start: Optional[Callable[[RunOutcome], Any]] = None
    progress: Optional[Callable[[BatchProgress], Any]] = None
    listener: Optional[Callable[[Any], Any]] = None
    journal: Optional[JournalPlan] = None
