"""The limit under asyncio: canned bytes over its streams, and `json.loads`."""

import asyncio
import json
from urllib.parse import urlsplit

from protocol import HEADERS, INPUTS, URL, serve_awaiting

place = urlsplit(URL)


def request(method, path, body=b""):
    fields = {"Host": place.netloc, **HEADERS, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def main():
    reader, writer = await asyncio.open_connection(place.hostname, place.port)

    def repeated(data):
        async def task(count):
            for _ in range(count):
                writer.write(data)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.rpartition(b"Content-Length: ")[2])
                json.loads(await reader.readexactly(length))

        return task

    async def events(count, kind="events"):
        """Decode the events, and skip the framing without reading it."""
        writer.write(request("GET", f"/api/v1/executions/{kind}-{count}/events"))
        await reader.readuntil(b"\r\n\r\n")
        rest, seen = b"", 0
        while seen < count:
            *blocks, rest = (rest + await reader.read(65_536)).split(b"\n\n")
            for block in blocks:
                _, found, data = block.partition(b"\ndata: ")
                if found:
                    json.loads(data)
                    seen += 1
        while not rest.endswith(b"0\r\n\r\n"):
            rest += await reader.read(65_536)

    body = json.dumps({"inputs": INPUTS}).encode()
    await serve_awaiting(
        events=events,
        call=repeated(request("GET", "/api/v1/workflows/wf_1")),
        list_page=repeated(request("GET", "/api/v1/workflows?page=1&per_page=4")),
        execute=repeated(request("POST", "/api/v1/workflows/wf_1/execute", body)),
    )
    writer.close()


asyncio.run(main())
