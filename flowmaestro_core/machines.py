"""The table from operations to machines.

This module is separate from operations and machines, so that no two modules import each other: the
module of a machine imports the operation that the machine carries out. Except for `CallMachine`, a
machine's module is loaded when the first machine of its kind is made.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.machine import Machine
from flowmaestro_core.operation import Operation

MakeMachine = Callable[[Any, Context, str], Machine[Any]]
"""The class of a machine. It is called with the operation, the client's context, and the random
text of which the machine makes its idempotency keys."""


def machine_for(
    operation: Operation[Any, Any], context: Context, token: str, name: str = ""
) -> Machine[Any]:
    """Return a new machine that carries out `operation` once.

    Args:
        operation: what a builder returned, such as `Workflows.get("wf_123")`.
        context: the options of a client, and what all its calls share.
        token: any random text. The machine makes the `Idempotency-Key` of a POST from it, unless
            the caller passed a key, or a checkpoint holds a token.
        name: the name of the client's method for observers, such as `workflows.run`.

    """
    kind = type(operation)
    make = _CALL_MACHINE if kind is Call else _MACHINES[kind.__name__]()
    machine = make(operation, context, token)
    machine.operation = name
    return machine


def _pages() -> MakeMachine:
    from flowmaestro_core.calls.pages import PagesMachine

    return PagesMachine


def _events() -> MakeMachine:
    from flowmaestro_core.streams.event_stream import EventStreamMachine

    return EventStreamMachine


def _message_stream() -> MakeMachine:
    from flowmaestro_core.messages.message_stream import MessageStreamMachine

    return MessageStreamMachine


def _poll() -> MakeMachine:
    from flowmaestro_core.executions.wait import WaitMachine

    return WaitMachine


def _run() -> MakeMachine:
    from flowmaestro_core.executions.run import RunMachine

    return RunMachine


def _durable_start() -> MakeMachine:
    from flowmaestro_core.executions.durable_start import DurableStartMachine

    return DurableStartMachine


def _batch() -> MakeMachine:
    from flowmaestro_core.executions.batch import BatchMachine

    return BatchMachine


_CALL_MACHINE: MakeMachine = CallMachine
"""The machine of the most frequent operation. A search in the table would take longer."""
_MACHINES: Dict[str, Callable[[], MakeMachine]] = {
    "Pages": _pages,
    "Events": _events,
    "MessageStream": _message_stream,
    "Poll": _poll,
    "DurableStart": _durable_start,
    "Run": _run,
    "Batch": _batch,
}
"""How to make each other machine, by the name of the operation's class: the class itself would have
to be imported."""
