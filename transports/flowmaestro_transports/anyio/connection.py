"""One HTTP/1.1 connection: h11 keeps the rules, a socket moves the bytes.

A connection carries one request at a time: `exchange`, then `take` until it returns `b""`, then
`recycle`. It waits only in `exchange` and `ready`, and it has no time limits of its own.
"""

from __future__ import annotations

import re
from typing import Awaitable, Hashable, List, Optional, Tuple

import h11

from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead
from flowmaestro_transports.anyio.routes import Fields
from flowmaestro_transports.anyio.socket import Socket

MAX_HEAD = 100 * 1024
"""Bytes of one reply's head, and of one chunk header: beyond that the reply is refused."""

_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
_TARGET = re.compile(r"[!-~]+")
_END = h11.EndOfMessage()


class Connection:
    """A connection for whatever has the `key`, which is the pool's business.

    Raises `OSError` and `h11.RemoteProtocolError` for what goes wrong with the peer, and
    `h11.LocalProtocolError` or `UnicodeError` for a request that HTTP/1.1 cannot express.
    After any of them `phase` says how far the request had come, and only `close` is left.
    """

    def __init__(self, socket: Socket, key: Hashable) -> None:
        self.key = key
        self.phase = Phase.NOT_SENT
        self.complete = False
        """Whether the body of the reply has been taken to its end."""
        self.idle_since = 0.0
        """When it was put aside; the pool's business."""
        self._socket = socket
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._fields: List[Tuple[str, str]] = []
        self._start: Optional[h11.Request] = None
        self._cut_short = False
        self._broken: Optional[h11.RemoteProtocolError] = None

    async def exchange(self, request: Request, target: str, fields: Fields) -> ResponseHead:
        """Send `request` for `target` (RFC 9112, 3.2) and read the head of its reply.

        Those of `fields` that the request does not have itself go before its own.
        """
        self.phase = Phase.NOT_SENT
        self.complete = False
        early = await self._send(self._encode(request, target, fields))
        response = await self._read_head(early or await self._wait_for_bytes())
        headers = Headers(
            [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in response.headers.raw_items()
            ]
        )
        if "transfer-encoding" in headers and "content-length" in headers:
            # An attempt to smuggle a reply in, maybe (RFC 9112, 6.1).
            raise h11.RemoteProtocolError("the reply has a length and a transfer coding")
        return ResponseHead(response.status_code, headers)

    def _encode(self, request: Request, target: str, needed: Fields) -> bytes:
        given = request.headers
        fields = [field for field in needed if field[0] not in given]
        fields += given.pairs
        body = request.body
        if (body or request.method in _BODY_EXPECTED) and "content-length" not in given:
            fields.append(("Content-Length", str(len(body))))
        if not _TARGET.fullmatch(target):
            raise h11.LocalProtocolError("the target of the request holds what no URL may")
        method, start = request.method.encode("ascii"), self._start
        if start is None or fields != self._fields or method != start.method:
            # h11 checks every field, but only once: most calls differ in their target alone.
            start = self._start = h11.Request(method=method, target=b"/", headers=fields)
            self._fields = fields
        http = self._h11
        field_lines = http.send(start)[len(method) + len(b" / HTTP/1.1\r\n") :]
        content = http.send(h11.Data(data=body)) if body else b""
        request_line = b"%s %s HTTP/1.1\r\n" % (method, target.encode("ascii"))
        return request_line + field_lines + content + http.send(_END)

    async def _send(self, data: bytes) -> Optional[bytes]:
        """Send all of `data`, or get the beginning of a reply that came before that was done."""
        rest = memoryview(data)
        try:
            while rest:
                sent = self._socket.send_nowait(rest)
                self.phase = Phase.MAYBE_PROCESSED
                if sent:
                    rest = rest[sent:]
                else:
                    await self._socket.ready()
        except OSError:
            # A server may answer and hang up before it has read a long request to its end.
            self._cut_short = True
            early = self._socket.receive_nowait()
            if not early:
                raise
            return early
        return None

    async def _read_head(self, data: bytes) -> h11.Response:
        """The head that begins with `data`, once it is whole; informational ones are skipped."""
        self.phase = Phase.REPLY_BROKEN
        received = 0
        while True:
            received += len(data)
            self._h11.receive_data(data)
            while (event := self._h11.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    if not event.http_version.startswith(b"1."):
                        raise h11.RemoteProtocolError("the reply is of no version of HTTP/1")
                    if received > MAX_HEAD:
                        _refuse_long_head(event)
                    return event
                if not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError("the server switched to another protocol")
            data = await self._wait_for_bytes()

    async def _wait_for_bytes(self) -> bytes:
        await self._socket.readable()
        while (data := self._socket.receive_nowait()) is None:
            await self._socket.ready()
        if not data:
            raise ConnectionResetError("the server closed the connection before its reply")
        return data

    def take(self) -> Optional[bytes]:
        """What has arrived of the body, without waiting.

        `b""` is its end, None means that nothing has come: `await ready()`, then ask again.
        """
        if self.complete:
            return b""
        if self._broken is not None:
            raise self._broken
        parts: List[bytes] = []
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if not parts:
                    raise
                self._broken = error  # what came before it is good
                break
            if isinstance(event, h11.Data):
                parts.append(event.data)
            elif event is h11.NEED_DATA:
                if parts:
                    break
                data = self._socket.receive_nowait()
                if data is None:
                    return None
                self._h11.receive_data(data)
            else:
                self.complete = True
                break
        return b"".join(parts)

    def ready(self) -> Awaitable[None]:
        """Wait until `take` is worth another try. A wait that is cancelled loses nothing."""
        return self._socket.ready()

    def recycle(self) -> bool:
        """Get ready for the next request; False when this connection must not carry one."""
        http = self._h11
        if (
            self._cut_short
            or http.our_state is not h11.DONE
            or http.their_state is not h11.DONE
            or http.trailing_data[0]
        ):
            return False
        http.start_next_cycle()
        return True

    def dropped(self) -> bool:
        """Of an idle connection: whether the server has closed it, or spoken out of turn."""
        return self._socket.dropped()

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self._socket.close()


def _refuse_long_head(response: h11.Response) -> None:
    # h11 looks at its limit only when a head is still incomplete.
    size = sum(len(name) + len(value) + 4 for name, value in response.headers)
    if size > MAX_HEAD:
        raise h11.RemoteProtocolError("the head of the reply is too long")
