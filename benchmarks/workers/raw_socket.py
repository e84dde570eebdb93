"""The limit: canned bytes over a socket, and `json.loads`."""

import json
import socket
from urllib.parse import urlsplit

from protocol import HEADERS, INPUTS, URL, serve

place = urlsplit(URL)
connection = socket.create_connection((place.hostname, place.port))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def request(method, path, body=b""):
    fields = {"Host": place.netloc, **HEADERS, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def repeated(data):
    def task(count):
        for _ in range(count):
            connection.sendall(data)
            received = connection.recv(65_536)
            head, _, body = received.partition(b"\r\n\r\n")
            missing = int(head.rpartition(b"Content-Length: ")[2]) - len(body)
            while missing > 0:
                more = connection.recv(65_536)
                body += more
                missing -= len(more)
            json.loads(body)

    return task


def events(count, kind="events"):
    """Decode the events, and skip the framing without reading it."""
    connection.sendall(request("GET", f"/api/v1/executions/{kind}-{count}/events"))
    rest, seen = b"", 0
    while seen < count:
        *blocks, rest = (rest + connection.recv(65_536)).split(b"\n\n")
        for block in blocks:
            _, found, data = block.partition(b"\ndata: ")
            if found:
                json.loads(data)
                seen += 1
    while not rest.endswith(b"0\r\n\r\n"):
        rest += connection.recv(65_536)


serve(
    events=events,
    call=repeated(request("GET", "/api/v1/workflows/wf_1")),
    list_page=repeated(request("GET", "/api/v1/workflows?page=1&per_page=4")),
    execute=repeated(
        request("POST", "/api/v1/workflows/wf_1/execute", json.dumps({"inputs": INPUTS}).encode())
    ),
)
