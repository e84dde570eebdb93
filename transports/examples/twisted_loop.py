"""The core driven by hand, on Twisted: a machine, its actions, and a loop of one's own."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Callable, Optional

from twisted_transport import TwistedBody, TwistedTransport

from flowmaestro_core.actions import Action, Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_transports import ResponseHead, TransportFailure

Emitted = Callable[[Any], object]


async def perform(
    operation: Operation[Any, Any], context: Context, transport: TwistedTransport, emit: Emitted
) -> Any:
    """Carry out an operation and return its result.

    `emit` is called with each item before, such as an event of a stream. Raises the error that the
    operation fails with.
    """
    machine = machine_for(operation, context, f"{random.getrandbits(128):032x}")
    report: Callable[..., Action] = machine.start
    body: Optional[TwistedBody] = None
    try:
        while True:
            action = report(transport.now(), random.random())  # noqa: S311
            try:
                if isinstance(action, Send):
                    reply = await transport.send(action.request, action.timeout)
                    report = partial(machine.response_received, reply)
                elif isinstance(action, Open):
                    body = await transport.open(action.request, action.timeout)
                    report = partial(machine.stream_opened, ResponseHead(body.status, body.headers))
                elif isinstance(action, Read) and body:
                    data = await body.read(action.patience)
                    report = machine.stream_quiet if data is None else machine.stream_ended
                    if data:
                        report = partial(machine.bytes_received, data)
                elif isinstance(action, Close) and body:
                    await body.close()
                    report = machine.stream_closed
                elif isinstance(action, Wait):
                    await transport.sleep(action.seconds)
                    report = machine.waited
                elif isinstance(action, Emit):
                    for item in action.items:
                        emit(item)
                    report = machine.emitted
                elif isinstance(action, Done):
                    return action.value
                elif isinstance(action, Fail):
                    raise action.error
            except TransportFailure as failure:
                report = partial(machine.transport_failed, failure)
    finally:
        if body:
            await body.close()
