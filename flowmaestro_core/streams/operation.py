"""The operation of an event stream. It describes the stream; `machine_for` makes its machine.

The module of that machine is not imported here, but when the first such machine is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, FrozenSet, Generic, Optional, TypeVar

from flowmaestro_core.calls.call import Call
from flowmaestro_core.handles import AsyncEventStream, EventStream
from flowmaestro_core.operation import HandleKind, Operation

E = TypeVar("E")


@dataclass(frozen=True)
class Events(Operation[EventStream[E], AsyncEventStream[E]], Generic[E]):
    """The events of one execution, thread or answer.

    Attributes:
        source: the call that opens the stream.
        terminal: the types of the events that end the stream.
        reconcile: the call that polls the execution; `None` for a thread or an answer.
        execution_id: the id of the execution, for errors; `None` for a thread or an answer.
        timeout: how many seconds the stream may last, from its first request.

    """

    handle = HandleKind.EVENTS

    source: Call[Any]
    terminal: FrozenSet[str] = frozenset()
    reconcile: Optional[Call[Any]] = None
    execution_id: Optional[str] = None
    timeout: float = math.inf
