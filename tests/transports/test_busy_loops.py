"""An event loop that is busy elsewhere comes late: to bytes, and to the end of a patience."""

from __future__ import annotations

import threading
import time
from typing import Any, List, Optional

import anyio
import pytest

from flowmaestro_core.http import Headers, Request
from flowmaestro_transports import AiohttpTransport, AnyioTransport


@pytest.mark.parametrize(
    ("make", "backend"),
    [(AiohttpTransport, "asyncio"), (AnyioTransport, "asyncio"), (AnyioTransport, "trio")],
    ids=["aiohttp", "anyio-asyncio", "anyio-trio"],
)
def test_what_came_in_time_is_not_taken_for_silence(scripted: Any, make: Any, backend: str) -> None:
    go, sent = threading.Event(), threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        go.wait(10)
        peer.send(b"5\r\nhello\r\n")
        sent.set()
        peer.wait_closed()

    async def main(url: str) -> None:
        transport = make()
        body = await transport.open(Request("GET", url, Headers(), b""), 10.0)
        got: List[Optional[bytes]] = []

        async def read() -> None:
            got.append(await body.read(0.1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(0.01)  # until it waits
            go.set()
            sent.wait(10)
            time.sleep(0.2)  # noqa: ASYNC251 - blocks the loop until the patience has run out
        assert got == [b"hello"]
        await body.close()
        await transport.close()

    with scripted.ScriptedServer(handler) as server:
        anyio.run(main, server.url, backend=backend)
