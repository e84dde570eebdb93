"""A connection of the fake server, which speaks HTTP/1.1 with h11."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Callable, List, Optional, Tuple, Union

import anyio
import anyio.lowlevel
import h11

from flowmaestro.testing.fake.model.dispatch import MAX_BODY_BYTES
from flowmaestro.testing.fake.model.replies import FakeReply, PolledBody, Source
from flowmaestro.testing.fake.server.exchanges import InspectedRequest
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.sockets import Peer
from flowmaestro_core.http.messages import Headers, Request, TransportFailure

_LOG = logging.getLogger(__name__)

MAX_HEAD_BYTES = 128 * 1024
"""The most bytes of the head of a request: more than the SDK accepts of a response (`MAX_HEAD`)."""
MAX_EARLY_BYTES = 64 * 1024
"""Bytes that a client may send while it receives an event stream; more close the connection.

While it waits for another response, no more are received until then.
"""

Handle = Callable[[Request], FakeReply]
Clock = Callable[[], float]
Event = Union[h11.Request, h11.InformationalResponse, h11.Response, h11.Data, h11.EndOfMessage]


class ServerConnection:
    """Reads requests, passes them to `handle`, and writes the responses, until either end closes.

    `now` is the clock of the model. An `inspector` gets every exchange with `handle` except those
    with its own page.
    """

    def __init__(
        self, peer: Peer, handle: Handle, now: Clock, inspector: Optional[Inspector] = None
    ) -> None:
        self._peer = peer
        self._handle = handle
        self._now = now
        self._inspector = inspector
        self._shown: Optional[InspectedRequest] = None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def run(self) -> None:
        """Serve the connection and close it. Its errors do not affect other connections."""
        try:
            while await self._exchange():
                self._http.start_next_cycle()
                if self._http.trailing_data[0]:  # Others are answered between pipelined requests.
                    await anyio.lowlevel.checkpoint()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
        except OSError:
            pass  # The client has closed the connection.
        except Exception:
            _LOG.exception("a request was answered with 500, because the fake raised an error")
            await self._refuse(500)
        finally:
            self._peer.close()

    async def _exchange(self) -> bool:
        """Answer one request. Return whether the connection can carry another one."""
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return False
        if head.method == b"CONNECT":  # The client takes this server for a proxy.
            await self._refuse(405, (b"Allow", b"DELETE, GET, HEAD, PATCH, POST, PUT"))
            return False
        body = await self._body()
        request = _request(head, body)
        inspector = self._inspector
        shown = None if inspector is None else inspector.arrived(request)
        reply = self._handle(request)
        waits = reply.ready or await self._wait(reply)
        if not waits:
            reply.abandon()
            if inspector is not None and shown is not None:
                inspector.left(shown)
                await until_ready(reply)  # It says which execution was started.
        if inspector is not None and shown is not None:
            inspector.responded(shown, reply)
        if not waits or reply.failure is not None:
            return False
        with_body = head.method != b"HEAD" and reply.status != 204
        if reply.stream is not None:
            self._shown = shown
            await self._send_stream(reply, reply.stream, with_body=with_body)
        else:
            await self._send_whole(reply, with_body=with_body)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _wait(self, reply: FakeReply) -> bool:
        """Wait until `reply` is ready. Return `False` at once when the client has left before."""

        async def watch() -> None:
            if not await self._receive_early():
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await until_ready(reply)
            tasks.cancel_scope.cancel()
        return reply.ready

    async def _next_event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._peer.receive())

    async def _body(self) -> bytes:
        """Receive and return the whole body.

        If it is longer than `MAX_BODY_BYTES`, discard most of what is beyond. What is returned is
        still too long, so the fake refuses it.
        """
        body = bytearray()
        while True:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return bytes(body)
            if len(body) <= MAX_BODY_BYTES:
                body += event.data

    async def _send(self, *events: Event) -> None:
        """Send h11 events with one write."""
        await self._peer.send(b"".join(self._http.send(event) or b"" for event in events))

    async def _send_whole(self, reply: FakeReply, *, with_body: bool) -> None:
        headers = _pairs(reply.headers)
        # The fake's response to a HEAD has it already: that of the body of a GET.
        if reply.status != 204 and "Content-Length" not in reply.headers:
            headers.append((b"Content-Length", str(len(reply.body)).encode()))
        events: List[Event] = [h11.Response(status_code=reply.status, headers=headers)]
        if with_body:
            events.append(h11.Data(data=reply.body))
        await self._send(*events, h11.EndOfMessage())

    async def _send_stream(self, reply: FakeReply, stream: PolledBody, *, with_body: bool) -> None:
        how = "left"  # `_watch` cancels `_pump` if the client closes the connection.
        headers = [*_pairs(reply.headers), (b"Transfer-Encoding", b"chunked")]
        head = h11.Response(status_code=reply.status, headers=headers)
        try:
            if not with_body:
                await self._send(head, h11.EndOfMessage())
                return
            await self._send(head)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, tasks.cancel_scope)
                how = await self._pump(stream)
                tasks.cancel_scope.cancel()
        finally:
            stream.close()
            if self._inspector is not None and self._shown is not None:
                self._inspector.stream_ended(self._shown, how)

    async def _pump(self, stream: PolledBody) -> str:
        """Send the events of a stream until its end, or until the client has left.

        Return how the stream ended: `complete`, `cut` by a fault, or `left` by the client.
        """
        while True:
            woken = alarm(stream)
            try:
                data = stream.poll(self._now())
                if data is None:
                    await woken.wait()
                    continue
                await self._send(h11.Data(data=data) if data else h11.EndOfMessage())
            except TransportFailure:
                return "cut"
            except OSError:
                return "left"
            if not data:
                return "complete"
            if self._inspector is not None and self._shown is not None:
                self._inspector.streamed(self._shown, data)

    async def _watch(self, streaming: anyio.CancelScope) -> None:
        """Cancel `streaming` when the client has left, or has sent more than `MAX_EARLY_BYTES`."""
        await self._receive_early()
        streaming.cancel()

    async def _receive_early(self) -> bool:
        """Receive what the client sends before its response has ended, for the next exchange.

        Return `False` when the client has closed the connection, and `True` when it has sent more
        than `MAX_EARLY_BYTES`.
        """
        early = 0
        with suppress(OSError):
            while data := await self._peer.receive():
                self._http.receive_data(data)
                early += len(data)
                if early > MAX_EARLY_BYTES:
                    return True
        return False

    async def _refuse(self, status: int, *fields: Tuple[bytes, bytes]) -> None:
        """Answer with an empty error response, unless a response has begun already."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [(b"Content-Length", b"0"), (b"Connection", b"close"), *fields]
        head = h11.Response(status_code=status, headers=headers)
        with suppress(OSError):
            await self._send(head, h11.EndOfMessage())


def alarm(source: Source) -> anyio.Event:
    """Return an event that is set when `source` calls `wake`: it has data to send or has ended."""
    woken = anyio.Event()
    source.wake = woken.set
    return woken


async def until_ready(reply: FakeReply) -> None:
    """Wait until a response is ready."""
    while not reply.ready:
        woken = alarm(reply)
        if not reply.ready:
            await woken.wait()


def _request(head: h11.Request, body: bytes) -> Request:
    target = head.target.decode("latin-1")
    if not target.startswith("/"):  # It is in absolute form (RFC 9112, 3.2.2), or `*`.
        target = "/" + target.partition("://")[2].partition("/")[2]
    headers = Headers(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers
    )
    return Request(head.method.decode("ascii"), f"http://localhost{target}", headers, body)


def _pairs(headers: Headers) -> List[Tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.pairs]
