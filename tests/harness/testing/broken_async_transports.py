"""Async transports that break one rule of the contract each."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports import AnyioTransport


class Shielded:
    """An async transport that minds no cancellation."""

    def __init__(self) -> None:
        self.inner = AnyioTransport()

    async def send(self, request: Request, timeout: float) -> Response:  # type: ignore[return]
        with anyio.CancelScope(shield=True):
            return await self.inner.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> Any:
        return await self.inner.open(request, timeout)

    async def sleep(self, seconds: float) -> None:
        await self.inner.sleep(seconds)

    def now(self) -> float:
        return self.inner.now()

    async def close(self) -> None:
        await self.inner.close()


class Swallowing(Shielded):
    """One that answers a cancellation with a reply."""

    async def send(self, request: Request, timeout: float) -> Response:
        try:
            return await self.inner.send(request, timeout)
        except anyio.get_cancelled_exc_class():
            return Response(204, {})


class GoesOnInTheBackground(Shielded):
    """One whose calls outlive their callers, on asyncio."""

    async def send(self, request: Request, timeout: float) -> Response:
        return await asyncio.shield(self.inner.send(request, timeout))


class WrappedBody:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def close(self) -> None:
        await self.inner.close()


class SleepsInItsReads(Shielded):
    """One whose reads hold up the event loop for longer than they may take."""

    async def open(self, request: Request, timeout: float) -> Any:
        return self.Body(await super().open(request, timeout))

    class Body(WrappedBody):
        async def read(self, patience: float) -> Any:
            data = await self.inner.read(patience)
            time.sleep(0.6)  # noqa: ASYNC251 - what it does wrong
            return data


class ForgetsACancelledBody(Shielded):
    """One whose body takes a read that was cancelled for one that goes on."""

    async def open(self, request: Request, timeout: float) -> Any:
        return self.Body(await super().open(request, timeout))

    class Body(WrappedBody):
        reading = False

        async def read(self, patience: float) -> Any:
            self.reading = True
            data = await self.inner.read(patience)
            self.reading = False
            return data

        async def close(self) -> None:
            if not self.reading:
                await self.inner.close()


class CancelsSomebodyElse(Shielded):
    """One whose calls end with a cancellation that nobody has asked for, as a stack in Rust."""

    async def send(self, request: Request, timeout: float) -> Response:
        await anyio.sleep(0.02)  # until the runner waits
        raise asyncio.CancelledError


class LosesItsPlace(Shielded):
    """One with a place for one call, which is lost when that is cancelled."""

    def __init__(self, max_connections: int = 1) -> None:
        super().__init__()
        self.places = anyio.Semaphore(max_connections)

    async def send(self, request: Request, timeout: float) -> Response:
        await self.places.acquire()
        response = await self.inner.send(request, timeout)
        self.places.release()
        return response


class HoldsUpTheLoop(Shielded):
    """One that blocks where it should await."""

    async def send(self, request: Request, timeout: float) -> Response:
        url = urlsplit(request.url)
        fields = [f"{name}: {value}" for name, value in request.headers.pairs]
        head = "\r\n".join([f"{request.method} / HTTP/1.1", *fields, "", ""])
        address = (url.hostname or "", url.port or 0)
        with socket.create_connection(address, 60) as sock:
            sock.sendall(head.encode())
            while (data := sock.recv(65536)) and b"Content-Length" not in data:
                pass  # a flood has no length
        return Response(200, {})


class IsClosedHalfway(Shielded):
    """One that takes itself for closed before it is."""

    closed = False

    def __init__(self, verify: Any = True) -> None:
        self.inner = AnyioTransport(verify=verify)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await anyio.lowlevel.checkpoint()
            await self.inner.close()
