"""A TCP proxy that does to each connection what its plan says, and the end of TLS behind it."""

from __future__ import annotations

import socket
import ssl
import struct
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Awaitable, Callable, Iterator, Optional

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSStream

from tests.harness.chaos.plan import END, FLIP, NONE, RESET, STALL, Plan

HOST = "127.0.0.1"
PIECE = 64 * 1024
HANDSHAKE_SECONDS = 10.0

_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)

Plans = Callable[[int], Plan]


class Proxy:
    """Passes bytes between those who connect to `port` and the server on port `target`."""

    def __init__(self, target: int, plans: Plans) -> None:
        self._listener = socket.create_server((HOST, 0), backlog=1024)
        self._listener.setblocking(False)
        self._target = target
        self._plans = plans
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.open = 0
        """How many connections are still there."""
        self.faults: Counter[str] = Counter()
        """Which faults have happened, and how often."""

    async def serve(self) -> None:
        """Serve until cancelled."""
        with self._listener:
            async with anyio.create_task_group() as tasks:
                while True:
                    await anyio.wait_readable(self._listener)
                    with suppress(OSError):  # the client has left again
                        client = self._listener.accept()[0]
                        tasks.start_soon(self._connect, client, self._plans(self.connections))
                        self.connections += 1
                        self.open += 1

    async def _connect(self, client: socket.socket, plan: Plan) -> None:
        up, down = (plan, Plan()) if plan.upward else (Plan(), plan)
        with suppress(OSError), client, socket.create_connection((HOST, self._target)) as server:
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _until_one_ends(
                partial(self._pump, client, server, up, plan.delay),
                partial(self._pump, server, client, down, plan.delay),
            )
        self.open -= 1

    async def _pump(
        self, source: socket.socket, sink: socket.socket, plan: Plan, delay: float
    ) -> None:
        """Pass bytes on, until the source ends or the plan says so."""
        left = plan.offset
        while True:
            data = await _receive(source)
            if delay:
                await anyio.sleep(delay)
            if plan.fault == NONE or len(data) <= left:
                left -= len(data)
            else:
                self.faults[plan.fault] += 1
                before, data = data[:left], data[left:]
                await _send(sink, before)
                if plan.fault == RESET:
                    _reset_when_closed(source, sink)
                if plan.fault in (END, RESET):
                    return
                if plan.fault == STALL:
                    await anyio.sleep(plan.seconds)
                elif plan.fault == FLIP:
                    data = bytes([data[0] ^ 0x10]) + data[1:]
                plan = Plan()
            await _send(sink, data)


class TlsEnd:
    """Takes TLS off: passes what was inside on to the server on port `target`."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context

    async def serve(self, *, task_status: Any) -> None:
        """Serve until cancelled; reports the port that it listens on."""
        listener = await anyio.create_tcp_listener(local_host=HOST, backlog=1024)
        async with listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(self._accept)

    async def _accept(self, raw: SocketStream) -> None:
        with suppress(*_LOST, TimeoutError):
            async with raw:
                with anyio.fail_after(HANDSHAKE_SECONDS):
                    client = await TLSStream.wrap(
                        raw,
                        server_side=True,
                        ssl_context=self._context,
                        standard_compatible=False,
                    )
                async with await anyio.connect_tcp(HOST, self._target) as server:
                    await _until_one_ends(
                        partial(_pass_on, client, server), partial(_pass_on, server, client)
                    )


async def _pass_on(source: ByteStream, sink: ByteStream) -> None:
    while True:
        await sink.send(await source.receive())


async def _until_one_ends(*ways: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as tasks:

        async def run(way: Callable[[], Awaitable[None]]) -> None:
            with suppress(*_LOST):
                await way()
            tasks.cancel_scope.cancel()

        for way in ways:
            tasks.start_soon(run, way)


async def _receive(sock: socket.socket) -> bytes:
    await anyio.wait_readable(sock)
    data = sock.recv(PIECE)
    if not data:
        raise anyio.EndOfStream
    return data


async def _send(sock: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await anyio.wait_writable(sock)


def _reset_when_closed(*socks: socket.socket) -> None:
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def running_proxy(
    target: int, plans: Plans, tls: Optional[ssl.SSLContext] = None
) -> Iterator[Proxy]:
    """A proxy before the server on port `target`, in a thread of its own while a block lasts.

    With `tls`, a server's context, what passes through the proxy is TLS.
    """
    with start_blocking_portal() as portal:
        ends = []
        if tls is not None:
            end, target = portal.start_task(TlsEnd(target, tls).serve)
            ends.append(end)
        proxy = Proxy(target, plans)
        ends.append(portal.start_task_soon(proxy.serve))
        try:
            yield proxy
        finally:
            for end in ends:
                end.cancel()
