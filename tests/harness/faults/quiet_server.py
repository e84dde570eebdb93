"""A program: it opens every event stream that is asked for, says `connected`, and falls silent.

It runs as a process of its own, so that its sockets are not counted with the client's. The first
line that it prints is its port; `GET /open` tells how many streams are open, and it ends when its
standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Dict

BACKLOG = 2048
CONNECTED = b'event: connected\ndata: {"status": "running"}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class QuietServer:
    def __init__(self) -> None:
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                path = request.split(b" ", 2)[1]
                if path.endswith(b"/events"):
                    await self._stay_open(reader, writer)
                    return
                data: Dict[str, Any] = {"status": "running"}
                if path.endswith(b"/open"):
                    data = {"open": self.open}
                body = json.dumps({"data": data}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _stay_open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            writer.write(HEAD + b"%x\r\n%s\r\n" % (len(CONNECTED), CONNECTED))
            await reader.read()
        finally:
            self.open -= 1


async def main() -> None:
    server = await asyncio.start_server(QuietServer().serve, "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
