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
    /api/v1/executions/packed-N/events         N events at once, 64 in a chunk
    /api/v1/executions/deployed-N/events       N at once, with the deployed server's keys
    /api/v1/executions/paced-N/events          N events, one after another, so that each is one read
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
BLOCK = 512
"""Events that are written in one go."""
PACKED = 64
"""Events of one chunk of a packed stream."""
PAUSE = 0.001
"""Seconds between paced events: several times what a client needs for one, so that it waits."""


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


def event(kind: str, **data: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def chunk(content: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(content), content)


WORKFLOW = reply({"data": workflow(720), "meta": META})
LAST_WORKFLOW = WORKFLOW.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
PAGE = reply(page(1, 1))
STARTED = reply(
    {"data": {"execution_id": "exec_1", "status": "pending"}, "meta": META}, "202 Accepted"
)
CONNECTED = chunk(event("connected", execution_id="exec_1", status="running"))
EVENT = event("node:stream", type="node:stream", node_id="node_1", token="lorem ipsum dolor sit a")
ENDED = chunk(event("execution:completed", type="execution:completed", outputs={}))
LAST = b"0\r\n\r\n"


def deployed(kind: str, **data: Any) -> bytes:
    """One event, with the keys that the deployed server sends."""
    given = {"type": kind, "timestamp": 1796099856274, "executionId": "96a7871a-fc2f-4c53-b047"}
    return event(kind, **given, **data)


NODE = {"nodeId": "transform1", "nodeName": "Compose", "nodeType": "transform"}
DEPLOYED = (
    chunk(deployed("node:started", **NODE)),
    chunk(deployed("node:completed", **NODE, output={"text": "Hello, Ada"}, duration=3)),
    chunk(deployed("execution:progress", completed=1, total=3, percentage=33)),
    chunk(deployed("node:started", **NODE)),
)
BLOCKS = {
    "events": chunk(EVENT) * BLOCK,
    "packed": chunk(EVENT * PACKED) * (BLOCK // PACKED),
    "deployed": b"".join(DEPLOYED) * (BLOCK // len(DEPLOYED)),
}
"""The bytes of `BLOCK` events, by the kind of the stream."""


def events(kind: str, count: int) -> Iterator[bytes]:
    """Yield a stream of `count` events, the last of them terminal."""
    yield STREAM_HEAD
    blocks, rest = divmod(count - 1, BLOCK)
    for _ in range(blocks):
        yield BLOCKS[kind]
    yield chunk(EVENT) * rest + ENDED + LAST


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
        elif kind == "executions" and name.startswith("paced-"):
            self._transport.write(STREAM_HEAD)
            self._pace(int(name[len("paced-") :]))
        elif kind == "executions" and "-" in name:
            written, _, count = name.partition("-")
            self._blocks = events(written, int(count))
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

    def _pace(self, count: int) -> None:
        if count == 1:
            self._transport.write(ENDED + LAST)
        elif not self._transport.is_closing():
            self._transport.write(chunk(EVENT))
            asyncio.get_running_loop().call_later(PAUSE, self._pace, count - 1)

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
        terminal = chunk(event("execution:completed", type="execution:completed", **ended))
        asyncio.get_running_loop().call_later(max(0.0, left), self._transport.write, terminal)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
