"""Server-sent events, decoded to the letter of the WHATWG specification.

https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from flowmaestro_core.errors import StreamError

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""Bytes that the lines of one event may have, a comment among them only while it is read."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One dispatched event.

    `last_event_id` is the stream's id at that moment, which outlives the event that brought it;
    `id` is the one that this very event brought, `None` if it brought none.
    """

    type: str
    data: str
    last_event_id: str = ""
    id: Optional[str] = None


class SseDecoder:
    """Turns the bytes of an event stream into events, however they are cut.

    `last_event_id` is what a reconnection sends as `Last-Event-ID`; `retry` is the server's
    reconnection time in milliseconds, `None` until it sends one. A decoder serves one
    connection; give the next one the id that this one ended with.
    """

    def __init__(self, last_event_id: str = "", max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_event_id = last_event_id
        self.retry: Optional[int] = None
        self._max_event_size = max_event_size
        self._at_start = True
        self._skip_lf = False
        self._too_large = False
        self._line: List[bytes] = []
        self._line_size = 0
        self._new_block()

    def feed(self, data: bytes) -> List[ServerSentEvent]:
        """The events that `data` completes, in order.

        Raises `StreamError` (code `event_too_large`) when one event exceeds `max_event_size`;
        the events before it are handed over first, and the next `feed` raises.
        """
        self._check_size(0)
        events: List[ServerSentEvent] = []
        try:
            self._take(data, events)
        except StreamError:
            if not events:
                raise
        return events

    def _take(self, data: bytes, events: List[ServerSentEvent]) -> None:
        if self._at_start:
            data = self._without_bom(data)
        if self._skip_lf and data:
            self._skip_lf = False
            data = data[1:] if data.startswith(b"\n") else data
        if b"\n" not in data and b"\r" not in data:
            self._hold(data)
            return
        lines = self._lines(data)
        rest = lines.pop()
        for line in lines:
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        self._hold(rest)

    def _without_bom(self, data: bytes) -> bytes:
        """Drop one leading byte order mark, even if it came in pieces."""
        data = b"".join(self._line) + data
        self._line, self._line_size = [], 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _lines(self, data: bytes) -> List[bytes]:
        """The lines that `data` completes, and last what follows them."""
        self._line.append(data)
        text = b"".join(self._line)
        self._line, self._line_size = [], 0
        if b"\r" in text:
            self._skip_lf = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return text.split(b"\n")

    def _hold(self, data: bytes) -> None:
        """Keep a line whose end has not come."""
        if data:
            self._line.append(data)
            self._line_size += len(data)
            self._check_size(self._line_size)

    def _check_size(self, line_size: int) -> None:
        """Refuse a line that makes the event too large, and all that comes after it."""
        if self._too_large or self._block_size + line_size > self._max_event_size:
            self._too_large = True
            raise StreamError(
                f"One event of the stream is larger than {self._max_event_size} bytes",
                code="event_too_large",
            )

    def _new_block(self) -> None:
        self._type = b""
        self._data: List[bytes] = []
        self._id: Optional[str] = None
        self._block_size = 0

    def _field(self, line: bytes) -> None:
        self._check_size(len(line))
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit():
                self.retry = int(value.lstrip(b"0")[:18] or b"0")
        else:
            return
        self._block_size += len(line)

    def _dispatch(self, events: List[ServerSentEvent]) -> None:
        if self._id is not None:
            self.last_event_id = self._id
        if self._data:
            events.append(
                ServerSentEvent(
                    self._type.decode("utf-8", "replace") or "message",
                    b"\n".join(self._data).decode("utf-8", "replace"),
                    self.last_event_id,
                    self._id,
                )
            )
        self._new_block()
