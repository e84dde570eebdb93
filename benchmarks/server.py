"""A loopback server of canned bytes, in a process of its own: `python -m benchmarks.server`.

It prints its port and serves until its standard input ends. The path says what is wanted:

    /api/v1/workflows/ID                       a workflow, 1 KB
    /api/v1/workflows                          a page, 1 KB; the only one, or below
    /pages-N/api/v1/workflows?page=I           the I-th of N
    /closing/api/v1/workflows/ID               a workflow, and the end of the connection
    /api/v1/workflows/ID/execute               a started execution
    /api/v1/workflows/run-MS/execute           one that ends after MS milliseconds
    /api/v1/executions/run-...[/events]        that one, and its stream
    /api/v1/executions/events-N/events         N events at once, each in a chunk of its own
    /api/v1/executions/idle/events             `connected`, and nothing more
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, Dict, Iterator, Optional, cast

META = {"request_id": "req_1", "timestamp": "2025-01-01T00:00:00Z"}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
BLOCK = 500
"""Events that are written in one go."""


def workflow(filling: int) -> Dict[str, Any]:
    """Return a workflow with a description of `filling` bytes."""
    return {
        "id": "wf_1",
        "name": "Order intake",
        "description": "x" * filling,
        "version": 3,
        "inputs": {"name": {"type": "text", "label": "Name", "required": True}},
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-02T00:00:00Z",
    }


def page(number: int, total: int) -> Dict[str, Any]:
    """Return a page of 1 KB: four workflows."""
    info = {"page": number, "per_page": 4, "total_count": 4 * total, "total_pages": total}
    info.update(has_next=number < total, has_prev=number > 1)
    rows = [{**workflow(2), "id": f"wf_{number}_{row}", "inputs": None} for row in range(4)]
    return {"data": rows, "pagination": info, "meta": META}


def reply(body: Dict[str, Any], status: str = "200 OK") -> bytes:
    """Return a whole reply with a JSON body."""
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        len(content),
        content,
    )


def chunk(kind: str, **data: Any) -> bytes:
    """One event, in a chunk of its own."""
    event = f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


WORKFLOW = reply({"data": workflow(720), "meta": META})
LAST_WORKFLOW = WORKFLOW.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
PAGE = reply(page(1, 1))
STARTED = reply(
    {"data": {"execution_id": "exec_1", "status": "pending"}, "meta": META}, "202 Accepted"
)
CONNECTED = chunk("connected", execution_id="exec_1", status="running")
EVENT = chunk("node:stream", type="node:stream", node_id="node_1", token="lorem ipsum dolor sit a")
ENDED = chunk("execution:completed", type="execution:completed", outputs={})


def events(count: int) -> Iterator[bytes]:
    """Yield a stream of `count` events, the last of them terminal."""
    yield STREAM_HEAD
    blocks, rest = divmod(count - 1, BLOCK)
    block = EVENT * BLOCK
    for _ in range(blocks):
        yield block
    yield EVENT * rest + ENDED + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Answers one request after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._blocks: Optional[Iterator[bytes]] = None
        self._paused = False

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        missing = int(length[1]) - len(rest) if length else 0
        if missing <= 0:
            self._received = b""
            self._answer(head.split(b" ", 2)[1].decode())

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        while self._blocks is not None and not self._paused:
            block = next(self._blocks, None)
            if block is None:
                self._blocks = None
            else:
                self._transport.write(block)

    def _answer(self, target: str) -> None:
        path, _, query = target.partition("?")
        prefix, _, path = path.partition("/api/v1/")
        kind, _, rest = path.partition("/")
        name, _, what = rest.partition("/")
        if kind == "executions" and name.startswith("run-"):
            self._run(name, what)
        elif kind == "executions" and name.startswith("events-"):
            self._blocks = events(int(name[len("events-") :]))
            self._go_on()
        elif kind == "executions":
            self._transport.write(STREAM_HEAD + CONNECTED)
        elif prefix == "/closing":
            self._transport.write(LAST_WORKFLOW)
            self._transport.close()
        elif what == "execute" and name.startswith("run-"):
            execution = f"{name}-{time.monotonic()}"
            self._transport.write(reply({"data": {"execution_id": execution}}, "202 Accepted"))
        elif what == "execute":
            self._transport.write(STARTED)
        elif name:
            self._transport.write(WORKFLOW)
        elif prefix:
            number = re.search(r"\bpage=(\d+)", query)
            total = int(prefix[len("/pages-") :])
            self._transport.write(reply(page(int(number[1]) if number else 1, total)))
        else:
            self._transport.write(PAGE)

    def _run(self, name: str, what: str) -> None:
        """An execution whose id says when it began and how long it runs; it tells its end."""
        _, milliseconds, began = name.split("-")
        end = float(began) + int(milliseconds) / 1000
        ended = {"id": name, "status": "completed", "outputs": {"ended": end}, "error": None}
        left = end - time.monotonic()
        if not what:
            running = {"id": name, "status": "running", "outputs": None, "error": None}
            self._transport.write(reply({"data": running if left > 0 else ended}))
            return
        self._transport.write(STREAM_HEAD + CONNECTED)
        terminal = chunk("execution:completed", type="execution:completed", **ended)
        asyncio.get_running_loop().call_later(max(0.0, left), self._transport.write, terminal)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
