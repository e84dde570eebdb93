"""The core driven by hand, on Twisted: a machine, its actions, and a loop of one's own."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Callable, Optional

from asyncio_driver import stored
from twisted_transport import TwistedBody, TwistedTransport

from flowmaestro_core import (
    Action,
    Close,
    Done,
    Emit,
    Fail,
    Load,
    Machine,
    Open,
    Read,
    Save,
    Send,
    Wait,
)
from flowmaestro_transports import ResponseHead, TransportFailure

Emitted = Callable[[Any], object]


async def perform(
    machine: Machine[Any], transport: TwistedTransport, emit: Emitted, store: Any = None
) -> Any:
    """Carry out a machine and return its value.

    `emit` is called with each item before, such as an event of a stream. `store` is for a batch
    with a store. Raises the error that the machine fails with.
    """
    report: Callable[..., Action] = machine.start
    body: Optional[TwistedBody] = None
    try:
        while True:
            action = report(transport.now(), random.random())  # noqa: S311
            if isinstance(action, Done):
                return action.value
            if isinstance(action, Fail):
                raise action.error
            if isinstance(action, Emit):
                for item in action.items:
                    emit(item)
                report = machine.emitted
                continue
            if isinstance(action, (Load, Save)):
                report = stored(machine, action, store)
                continue
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
            except TransportFailure as failure:
                report = partial(machine.transport_failed, failure)
    finally:
        machine.abandon()
        if body:
            await body.close()
