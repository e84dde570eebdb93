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

    body = json.dumps({"inputs": INPUTS}).encode()
    await serve_awaiting(
        call=repeated(request("GET", "/api/v1/workflows/wf_1")),
        list_page=repeated(request("GET", "/api/v1/workflows?page=1&per_page=4")),
        execute=repeated(request("POST", "/api/v1/workflows/wf_1/execute", body)),
    )
    writer.close()


asyncio.run(main())
