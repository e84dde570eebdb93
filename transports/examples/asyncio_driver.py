"""A driver of one's own: the core's machines over raw asyncio streams and h11.

It opens a connection for each request, and passes the conformance check of drivers.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any, Callable, Mapping, Optional, Union
from urllib.parse import urlsplit

import h11

from flowmaestro_core import (
    Close,
    Done,
    Emit,
    Fail,
    FlowMaestroError,
    JournalError,
    Load,
    Loaded,
    Machine,
    Open,
    Read,
    Save,
    Send,
    Wait,
)
from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)


class Exchange:
    """One request and its response, and how far they have come."""

    def __init__(self) -> None:
        self.phase = Phase.NOT_SENT
        self._http = h11.Connection(h11.CLIENT)
        self._writer: Optional[asyncio.StreamWriter] = None
        self._reading: Optional[asyncio.Future[bytes]] = None

    async def head(self, request: Request) -> ResponseHead:
        """Send the request, and return the head of its response."""
        url = urlsplit(request.url)
        port, tls = (url.port or 443, True) if url.scheme == "https" else (url.port or 80, None)
        self._reader, self._writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        self.phase = Phase.MAYBE_PROCESSED
        own = {"accept-encoding": "identity", "connection": "close", "host": url.netloc}
        if request.body:
            own["content-length"] = str(len(request.body))
        fields = [pair for pair in request.headers.pairs if pair[0].lower() not in own]
        target = url._replace(scheme="", netloc="").geturl()
        for event in (
            h11.Request(method=request.method, target=target, headers=[*own.items(), *fields]),
            h11.Data(request.body),
            h11.EndOfMessage(),
        ):
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                self.phase = Phase.REPLY_BROKEN
                pairs = [(name.decode(), text.decode("latin-1")) for name, text in event.headers]
                return ResponseHead(event.status_code, Headers(pairs))

    async def response(self, request: Request) -> Response:
        """Send the request, and return the whole response."""
        head, body = await self.head(request), bytearray()
        while True:
            piece = await self._piece()
            if not piece:
                return Response(head.status, head.headers, bytes(body))
            body += piece

    async def read(self, patience: float) -> Optional[bytes]:
        """Return some bytes of the body, b"" at its end, None after `patience` seconds."""
        # The read goes on after that: to cancel it would lose what it has taken.
        self._reading = self._reading or asyncio.ensure_future(self._piece())
        await asyncio.wait([self._reading], timeout=patience)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def close(self) -> None:
        """Close the connection."""
        if self._reading is not None and not self._reading.cancel():
            self._reading.exception()  # Nobody reads it any more; asyncio must not complain.
        if self._writer is not None:
            self._writer.close()

    async def _piece(self) -> bytes:
        while True:
            event = await self._event()
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                return b""

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("the connection was closed")
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(65536))


def stored(
    machine: Machine[Any], action: Union[Load, Save], store: Any
) -> Callable[[float, float], Any]:
    """Call the store. Return what to report."""
    try:
        if isinstance(action, Save):
            store.save(action.states)
            return machine.saved
        states = store.load(action.keys, action.outcomes) if action.keys else ()
        ids = action.execution_ids
        known: Mapping[str, int] = store.known(ids) if ids else {}
        return partial(machine.loaded, Loaded(tuple(states), known, time.time()))
    except FlowMaestroError as error:  # such as a `CheckpointConflict`
        return partial(machine.store_failed, error)
    except Exception as error:
        failed = JournalError(f"The journal cannot be used: {error}")
        failed.__cause__ = error
        return partial(machine.store_failed, failed)


async def drive(machine: Machine[Any], emit: Callable[[Any], object], store: Any = None) -> Any:
    """Carry out a machine. Return its value, or raise its error."""
    clock = asyncio.get_running_loop().time
    body = Exchange()  # The open stream. It stays open while a `Send` polls the execution.
    report: Callable[..., Any] = machine.start
    try:
        while True:
            action = report(clock(), random.random())  # noqa: S311 - it spreads retries
            if isinstance(action, Done):
                return action.value
            if isinstance(action, Fail):
                raise action.error  # It may be an OSError, so not within `try`.
            if isinstance(action, Emit):
                for item in action.items:
                    emit(item)
                report = machine.emitted
                continue
            if isinstance(action, (Load, Save)):
                report = stored(machine, action, store)
                continue
            exchange = body
            try:
                if isinstance(action, Send):
                    exchange = Exchange()
                    sending = exchange.response(action.request)
                    response = await asyncio.wait_for(sending, action.timeout)
                    await exchange.close()
                    report = partial(machine.response_received, response)
                elif isinstance(action, Open):
                    exchange = body = Exchange()
                    head = await asyncio.wait_for(body.head(action.request), action.timeout)
                    report = partial(machine.stream_opened, head)
                elif isinstance(action, Read):
                    data = await body.read(action.patience)
                    if data:
                        report = partial(machine.bytes_received, data)
                    elif data is None:
                        report = machine.stream_quiet
                    else:
                        await body.close()
                        report = machine.stream_ended
                elif isinstance(action, Close):
                    await body.close()
                    report = machine.stream_closed
                elif isinstance(action, Wait):
                    await asyncio.sleep(action.seconds)
                    report = machine.waited
            except (OSError, asyncio.TimeoutError, h11.RemoteProtocolError) as error:
                await exchange.close()
                late = isinstance(error, asyncio.TimeoutError)
                said = str(error) or "no response in time"
                failure = TransportFailure(exchange.phase, said, timed_out=late)
                failure.__cause__ = error
                report = partial(machine.transport_failed, failure)
    finally:
        machine.abandon()
        await body.close()
