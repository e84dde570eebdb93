"""What first drafts of a transport look like: on requests, on the standard library, by hand."""

from __future__ import annotations

import socket
import threading
from http.client import HTTPConnection, HTTPException
from typing import Any, Optional
from urllib.parse import urlsplit

import requests

from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure
from tests.harness.testing.broken_transports import Wrapper


class PlainRequests(Wrapper):
    def __init__(self) -> None:
        self.session = requests.Session()

    def send(self, request: Request, timeout: float) -> Response:
        try:
            got = self.session.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                data=request.body,
                timeout=timeout,
                allow_redirects=False,
            )
        except requests.ConnectionError as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error)) from error
        except requests.Timeout as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error), timed_out=True) from error
        return Response(got.status_code, Headers(got.headers.items()), got.content)

    def open(self, request: Request, timeout: float) -> Any:
        got = self.session.request(
            request.method, request.url, headers=dict(request.headers), stream=True, timeout=timeout
        )
        return PlainBody(got)

    def close(self) -> None:
        self.session.close()


class PlainBody:
    def __init__(self, got: requests.Response) -> None:
        self.status, self.headers = got.status_code, Headers(got.headers.items())
        self.close = got.close
        self.pieces = got.iter_content(65536)

    def read(self, patience: float) -> bytes:
        return next(self.pieces, b"")


class KeepsDeadConnections(Wrapper):
    kept: Optional[HTTPConnection] = None

    def send(self, request: Request, timeout: float) -> Response:
        url = urlsplit(request.url)
        if self.kept is None:
            self.kept = HTTPConnection(url.netloc, timeout=timeout)
            self.kept.connect()
            self.kept.auto_open = False
        try:
            self.kept.request(request.method, url.path, request.body, dict(request.headers))
            reply = self.kept.getresponse()
            return Response(reply.status, Headers(reply.getheaders()), reply.read())
        except (OSError, HTTPException) as error:
            raise TransportFailure(Phase.MAYBE_PROCESSED, str(error)) from error

    def close(self) -> None:
        if self.kept is not None:
            self.kept.close()
        super().close()


class LeavesConnectionsBehind(KeepsDeadConnections):
    def close(self) -> None:
        timer = threading.Timer(20.0, super().close)  # later than anybody waits for it
        timer.daemon = True
        timer.start()


class ReadsByHand(Wrapper):
    """One that was tried with the replies of one server."""

    kept: Optional[socket.socket] = None

    def send(self, request: Request, timeout: float) -> Response:
        url = urlsplit(request.url)
        if self.kept is None:
            self.kept = socket.create_connection((url.hostname or "", url.port or 0), 2.0)
        lines = [f"{request.method} / HTTP/1.1", f"Content-Length: {len(request.body)}"]
        lines += [f"{name}: {value}" for name, value in request.headers.pairs]
        self.kept.send("\r\n".join([*lines, "", ""]).encode() + request.body)
        with self.kept.makefile("rb") as reply:
            status = int(reply.readline().split()[1])
            fields = []
            while line := reply.readline(8192).strip():
                name, _, value = line.decode().partition(": ")
                fields.append((name, value))
            headers, body = Headers(fields[-64:]), b""
            if "transfer-encoding" in headers:
                while size := int(reply.readline(), 16):
                    body += reply.read(size + 2)[:-2]
            elif length := int(headers.get("content-length", "0")):
                # Of a longer body, what has come by then may be a byte, or all.
                body = reply.read(1) if length > 2 else reply.read1(length)
        return Response(status, headers, body)

    def close(self) -> None:
        if self.kept is not None:
            self.kept.close()
        super().close()
