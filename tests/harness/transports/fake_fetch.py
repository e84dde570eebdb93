"""What a browser's JavaScript offers to Python: `fetch` and `AbortController`, as Pyodide has them.

Bytes are carried by `AnyioTransport`. Like a browser's, it tells nothing of a failure, sets
`accept-encoding` itself, undoes codings and shows them still, joins repeated fields, and shows
no redirect.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Callable, Coroutine, Dict, Set

from flowmaestro_transports import AnyioTransport, Request, TransportFailure

FOREVER = 3600.0
"""Seconds: nothing but its caller ends a fetch."""


class JsException(Exception):
    """What a promise is rejected with."""


class AbortController:
    def __init__(self) -> None:
        self.signal = self
        self._under_way: Set[asyncio.Future[Any]] = set()
        self._aborted = False
        self.release: Callable[[], object] = lambda: None

    def abort(self) -> None:
        self._aborted = True
        for each in list(self._under_way):
            each.cancel()
        self.release()

    async def bound(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """What the steps return, unless it is aborted; like a promise, they go on by themselves."""
        promise = asyncio.ensure_future(steps)
        self._under_way.add(promise)
        if self._aborted:
            promise.cancel()
        try:
            return await asyncio.shield(promise)
        except asyncio.CancelledError:
            if not promise.cancelled():
                raise  # it was who waits that was cancelled
            raise JsException("AbortError: signal is aborted without reason") from None
        except TransportFailure:
            raise JsException("TypeError: Failed to fetch") from None
        finally:
            if promise.done():
                self._under_way.discard(promise)


async def fake_fetch(url: str, init: Dict[str, Any]) -> Any:
    """`fetch`, with a connection of its own for each request."""
    assert (init["credentials"], init["redirect"]) == ("omit", "manual")
    fields = {**init["headers"], "accept-encoding": "gzip, deflate"}
    request = Request(init["method"], url, fields, init["body"] or b"")
    signal: AbortController = init["signal"]
    network = AnyioTransport()
    signal.release = lambda: asyncio.ensure_future(network.close())
    try:
        reply = await signal.bound(network.open(request, FOREVER))
    except JsException:
        await network.close()
        raise
    headers = [*reply.headers.items(), ("content-encoding", "gzip")]  # shown, though undone
    if 300 <= reply.status < 400 and "location" in reply.headers:
        await network.close()
        return SimpleNamespace(type="opaqueredirect", status=0, headers=[], body=None)
    if init["method"] == "HEAD":
        await network.close()
        return SimpleNamespace(type="basic", status=reply.status, headers=headers, body=None)
    body = ReadableStream(lambda: signal.bound(reply.read(FOREVER)), network.close)
    return SimpleNamespace(type="basic", status=reply.status, headers=headers, body=body)


class ReadableStream:
    def __init__(
        self,
        read: Callable[[], Coroutine[Any, Any, bytes]],
        close: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._read, self._close = read, close

    def getReader(self) -> ReadableStream:  # noqa: N802
        return self

    async def read(self) -> Any:
        try:
            data = await self._read()
        except JsException:
            await self._close()
            raise
        if not data:
            await self._close()
        return SimpleNamespace(done=not data, value=Uint8Array(data))


class Uint8Array:
    def __init__(self, data: bytes) -> None:
        self.to_bytes = lambda: data
