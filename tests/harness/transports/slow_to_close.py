"""A transport whose body waits while it is closed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from flowmaestro_core.http.messages import Headers, Response


class SlowToClose:
    """A transport whose open body can be closed only by awaiting, and how far that has come."""

    def __init__(self):
        self.state = "open"
        self.waiter: Any = None

    async def send(self, request, timeout):
        return Response(200, {}, b'{"data": {"execution_id": "e"}}')

    async def open(self, request, timeout):
        body = Response(200, Headers({"Content-Type": "text/event-stream"}), b"")
        self.status, self.headers = body.status, body.headers
        return self

    async def read(self, patience):
        if self.state == "open":
            self.state = "read"
            return b'event: execution:started\ndata: {"execution_id": "e"}\n\n'
        return await asyncio.sleep(patience)

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)

    def now(self):
        return asyncio.get_running_loop().time()

    async def close(self):
        if self.state == "read":
            self.state = "closing"
            waiter = asyncio.get_running_loop().create_future()
            self.waiter = weakref.ref(waiter)  # as of a library that waits for its own callback
            await waiter
            self.state = "closed"

    async def is_closed(self):
        await asyncio.sleep(0)
        gc.collect()
        assert self.state == "closing"
        self.waiter().set_result(None)
        await asyncio.sleep(0)
        return self.state == "closed"
