"""Server-sent events, decoded as the WHATWG specification says.

https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6.
"""

from __future__ import annotations

import re
from codecs import iterdecode
from functools import partial
from io import StringIO
from itertools import chain
from typing import Any, List, NamedTuple, Optional, cast

from flowmaestro_core.errors import StreamError

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""The most bytes of one incomplete event, with its comments and line ends: as many as a whole reply
may have by default, because an event may hold all outputs."""

_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"
_BLANK_LINES = re.compile(r"\n\n\n+")
_FIRST_FIELD = re.compile(r"(data|event|id|retry)(?:: ?(.*))?$", re.MULTILINE)
_FIELD = re.compile(r"\n(?=[deir])(data|event|id|retry)(?:: ?(.*))?$", re.MULTILINE)
"""A line with a known field, and the line feed before it: its name and its value.

The line feed and the look at one letter let the search skip comments, blank lines and unknown
fields without a step in Python. A server may send a megabyte of them in a thousand compressed
bytes.
"""
_RETRY = re.compile(rb"^retry:(.*)\n", re.MULTILINE)
_LARGE = 64 * 1024
"""A text of at least so many bytes is decoded in pieces, which takes more time and less memory. One
read returns at most as many, so only an event that several reads bring is."""


class ServerSentEvent(NamedTuple):
    """One complete server-sent event."""

    type: str
    data: str


_event = partial(cast("Any", tuple).__new__, ServerSentEvent)
"""Makes an event from a tuple, in half the time that the constructor of a named tuple takes."""


class SseDecoder:
    """A decoder that makes events from the bytes of an event stream, however these are split.

    It holds the bytes of a block of lines until the blank line that ends the block comes. Then it
    parses the block.

    `last_event_id` is the last id that the server sent. A decoder serves one connection; give the
    decoder of the next connection the last `last_event_id` and `retry` of this one.
    """

    def __init__(self, last_event_id: str = "", *, retry: Optional[int] = None) -> None:
        self.last_event_id: str = last_event_id
        self._retry = retry
        self._at_start = True
        self._after_cr = False
        self._held = bytearray()

    @property
    def retry(self) -> Optional[int]:
        """The server's reconnection time in milliseconds; `None` until the server sends one.

        A `retry:` line takes effect once the line is complete, even if its block has not ended.
        """
        retry = self._retry
        if b"retry" not in self._held:  # This check is far cheaper than the search for lines.
            return retry
        for line in _RETRY.finditer(self._held):
            value = line[1].decode("utf-8", "replace").removeprefix(" ")
            retry = _milliseconds(value, retry)
        return retry

    def feed(self, data: bytes) -> List[ServerSentEvent]:
        """Return the events that `data` completes, in order.

        Raises `StreamError` (code `event_too_large`) if no event ends within `data`, and more than
        `MAX_EVENT_SIZE` bytes are held. An event that ends within `data` may be larger.
        """
        if self._after_cr or _CR in data:
            data = self._with_line_feeds(data)
        held = self._held
        if _LF not in data and not self._at_start:
            held.extend(data)  # Nothing ends within this piece, as in most of a large event.
            if len(held) > MAX_EVENT_SIZE:
                raise _too_large()
            return []
        new = len(held)
        held.extend(data)
        if self._at_start and not _BOM.startswith(held):
            self._at_start = False
            new = 0
            if held.startswith(_BOM):
                del held[: len(_BOM)]
        end = held.rfind(b"\n\n", new and new - 1)
        if end < 0:
            if len(held) > MAX_EVENT_SIZE:
                raise _too_large()
            return []
        text = held[:end].decode("utf-8", "replace") if end < _LARGE else _decoded(held, end)
        del held[: end + 2]
        # Most pieces hold one event, in two lines. To find that out costs less than to split.
        cut = text.find("\n")
        starts_plain = text.startswith("event: ")
        if starts_plain and text.startswith("\ndata: ", cut) and text.rfind("\n") == cut:
            return [_event((text[7:cut] or "message", text[cut + 7 :]))]
        if not starts_plain:
            return self._parse(text)
        events: List[ServerSentEvent] = []
        # To split at the name of the next field, too, saves two steps of Python for each event.
        for block in text[7:].split("\n\nevent: "):
            kind, found, content = block.partition("\ndata: ")
            if found and "\n" not in content and "\n" not in kind:
                events.append(_event((kind or "message", content)))
            else:
                # Release them early: each may take as much memory as the text.
                del block, kind, content
                return self._parse(text)
        return events

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Return `data` with each line end (CRLF, CR or LF) replaced by one line feed.

        If a CRLF is split between two pieces, its line feed is dropped from the second piece.
        """
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _parse(self, text: str) -> List[ServerSentEvent]:
        """Return the events of complete blocks, parsed field by field.

        Does not make a list of all lines, which may take much more memory than the text.
        """
        if "\n\n\n" in text:
            text = _BLANK_LINES.sub("\n\n", text)
        events: List[ServerSentEvent] = []
        kind, data, end = "", None, 0
        first = _FIRST_FIELD.match(text)
        for field in chain((first,) if first else (), _FIELD.finditer(text)):
            if text.find("\n\n", end, field.start() + 1) >= 0:  # A blank line: the block has ended.
                if data is not None:
                    events.append(_event((kind or "message", data.getvalue())))
                kind, data = "", None
            end = field.end()
            name, value = field[1], field[2] or ""
            if name == "data":
                if data is None:
                    data = StringIO(newline="")
                else:
                    data.write("\n")
                data.write(value)
            elif name == "event":
                kind = value
            elif name == "retry":
                self._retry = _milliseconds(value, self._retry)
            elif "\0" not in value:
                self.last_event_id = value
        if data is not None:
            events.append(_event((kind or "message", data.getvalue())))
        return events


def _too_large() -> StreamError:
    said = f"One event of the stream is larger than {MAX_EVENT_SIZE} bytes"
    return StreamError(said, code="event_too_large")


def _milliseconds(value: str, before: Optional[int]) -> Optional[int]:
    """Return the value of a `retry` field, or `before` if `value` is not only ASCII digits.

    Of a long number the first 18 digits count: they are longer than any limit, and Python would
    need quadratic time for all of them.
    """
    return int(value.lstrip("0")[:18] or "0") if value.isascii() and value.isdigit() else before


def _decoded(data: bytearray, end: int) -> str:
    """Return the text of `data` up to `end`, decoded piece by piece.

    If it were decoded at once and held one character beyond U+FFFF, the decoder would take four
    bytes of memory for each byte of `data`, and shrink the text only at the end.
    """
    cuts = (bytes(data[at : min(at + _LARGE, end)]) for at in range(0, end, _LARGE))
    return "".join(iterdecode(cuts, "utf-8", "replace"))
