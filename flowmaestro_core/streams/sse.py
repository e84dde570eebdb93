"""Server-sent events, decoded to the letter of the WHATWG specification.

https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6.
"""

from __future__ import annotations

from codecs import iterdecode
from functools import partial
from io import StringIO
from itertools import chain
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, cast

from flowmaestro_core.errors import StreamError

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""Bytes that the lines of one event may have, a comment among them only while it is read."""
MAX_EVENT_LINES = 1 << 18
"""Lines that one event may have, comments included: each costs time and memory of its own."""

_BOM = b"\xef\xbb\xbf"
_LARGE = 64 * 1024
"""Bytes, or characters, above which memory counts for more than time."""
_LF, _CR = b"\n\r"
_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})


class ServerSentEvent(NamedTuple):
    """One dispatched event.

    `last_event_id` is the stream's id at that moment, which outlives the event that brought it;
    `id` is the one that this very event brought, `None` if it brought none.
    """

    type: str
    data: str
    last_event_id: str = ""
    id: Optional[str] = None


_event = partial(cast("Any", tuple).__new__, ServerSentEvent)
"""The event of a tuple, in half the time that the constructor of a named tuple takes."""


class SseDecoder:
    """Turns the bytes of an event stream into events, however they are cut.

    It holds the bytes of one block, with every line end made a line feed, until the blank line
    comes, and then reads the block whole.

    `last_event_id` is what a reconnection sends as `Last-Event-ID`. A decoder serves one
    connection; give the next one the id and the `retry` that this one ended with.
    """

    def __init__(
        self,
        last_event_id: str = "",
        max_event_size: int = MAX_EVENT_SIZE,
        *,
        retry: Optional[int] = None,
    ) -> None:
        self.last_event_id = last_event_id
        self._retry = retry
        self._max_event_size = self._measure_above = max_event_size
        self._at_start = True
        self._after_cr = False
        self._held = bytearray()

    @property
    def retry(self) -> Optional[int]:
        """The server's reconnection time in milliseconds, `None` until it sends one.

        It counts from its own line on, whether or not its block has ended.
        """
        *lines, _ = self._held.split(b"\n")
        fields = b"\n".join(line for line in lines if line.startswith(b"retry"))
        self._interpret(fields.decode("utf-8", "replace").split("\n"), [])
        return self._retry

    def feed(self, data: bytes) -> List[ServerSentEvent]:
        """The events that `data` completes, in order.

        Raises `StreamError` (code `event_too_large`) when one event exceeds `max_event_size` or
        `MAX_EVENT_LINES`; the events before it are handed over first, and the next `feed` raises.
        """
        held = self._held
        held.extend(data)
        if _LF not in data and _CR not in data and len(held) <= self._measure_above:
            return []
        new = len(held) - len(data)
        if self._after_cr or self._at_start or _CR in data or len(held) > self._measure_above:
            end = self._prepare(new)
        else:
            end = held.rfind(b"\n\n", new and new - 1)
        if end < 0:
            return []
        if end > _LARGE:
            return self._take_large(end)
        text = held[:end].decode("utf-8", "replace")
        del held[: end + 2]
        self._measure_above = self._max_event_size
        head, found, content = text.partition("\ndata: ")
        if found and "\n" not in content and "\n" not in head and head.startswith("event: "):
            return [_event((head[7:] or "message", content, self.last_event_id, None))]
        return self._read(text)

    def _read(self, text: str) -> List[ServerSentEvent]:
        """The events of whole blocks: the common ones at a glance, the rest by all the rules."""
        events: List[ServerSentEvent] = []
        last_event_id = self.last_event_id
        lines = iter(text.split("\n"))
        for line in lines:
            data, end = next(lines, ""), next(lines, "")
            if line.startswith("event: ") and data.startswith("data: ") and not end:
                events.append(_event((line[7:] or "message", data[6:], last_event_id, None)))
            else:
                self._interpret((line, data, end, *lines, ""), events)
        return events

    def _take_large(self, end: int) -> List[ServerSentEvent]:
        """The events of many whole blocks, or of a large one."""
        crowded = self._crowded_block(end)
        if crowded >= 0:
            end = self._held.rfind(b"\n\n", 0, self._refuse(crowded))
        small_first = self._held.find(b"\n\n", 0, min(end, _LARGE)) >= 0
        text = self._cut_out(end)
        if crowded >= 0:
            self._measure_above = -1
        return self._read(text) if small_first else self._read_large(text)

    def _crowded_block(self, end: int) -> int:
        """Where the first block before `end` begins that has too many lines, or -1."""
        held = self._held
        start = end if held.count(b"\n", 0, end) < MAX_EVENT_LINES else 0
        while start < end:
            blank = held.find(b"\n\n", start, end)
            stop = end if blank < 0 else blank
            if held.count(b"\n", start, stop) >= MAX_EVENT_LINES:
                return start
            start = stop + 2
        return -1

    def _cut_out(self, end: int) -> str:
        """The text of whole blocks, decoded piece by piece.

        At once, each of its bytes would take four for a while where one character needs them.
        """
        held = self._held
        starts = range(0, end, _LARGE)
        cuts = (bytes(held[at : min(at + _LARGE, end)]) for at in starts)
        pieces = list(iterdecode(cuts, "utf-8", "replace"))
        del held[: end + 2]
        self._measure_above = self._max_event_size
        return "".join(pieces)

    def _read_large(self, text: str) -> List[ServerSentEvent]:
        """As `_read`, with few copies and never all lines by themselves."""
        head, found, content = text.partition("\ndata: ")
        named = head.startswith("event: ") and "\n" not in head
        if found and named and content.count("\n") == content.count("\ndata: "):
            data = content.replace("\ndata: ", "\n")
            return [_event((head[7:] or "message", data, self.last_event_id, None))]
        del content
        events: List[ServerSentEvent] = []
        self._interpret(chain(_lines_of(text), ("",)), events)
        return events

    def _interpret(self, lines: Iterable[str], events: List[ServerSentEvent]) -> None:
        """Take each line as the specification says, to the blank one that ends the last block."""
        kind, own_id, data = "", None, None
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                if data is None:
                    data = StringIO(newline="")
                else:
                    data.write("\n")
                data.write(value)
            elif name == "event":
                kind = value
            elif name == "id" and "\0" not in value:
                own_id = value
            elif name == "retry":
                self._take_retry(value)
            elif not line:
                self.last_event_id = self.last_event_id if own_id is None else own_id
                if data is not None:
                    text = data.getvalue()
                    events.append(
                        ServerSentEvent(kind or "message", text, self.last_event_id, own_id)
                    )
                kind, own_id, data = "", None, None

    def _take_retry(self, value: str) -> None:
        if value.isascii() and value.isdigit():
            self._retry = int(value.lstrip("0")[:18] or "0")

    def _prepare(self, new: int) -> int:
        """Make every line end a line feed, drop a byte order mark, and mind the size.

        What is held from `new` on has just come. Returns where the last blank line begins that
        may be read, or -1.
        """
        held = self._held
        data = held[new:]
        if self._after_cr and data.startswith(b"\n") and (not new or held[new - 1] == _LF):
            del data[:1]
        self._after_cr = data.endswith(b"\r")
        held[new:] = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._at_start and held.startswith(_BOM):
            del held[: len(_BOM)]
            new = 0
        self._at_start = False
        if len(held) > self._measure_above:
            return held.rfind(b"\n\n", 0, self._measure())
        return held.rfind(b"\n\n", new and new - 1)

    def _measure(self) -> int:
        """The end of the held bytes that may be read: no event in them is too large.

        Of the block that has not ended, lines that say nothing are dropped.
        """
        crowded = self._crowded_block(len(self._held))
        if self._measure_above < 0 or crowded >= 0:
            return self._refuse(max(crowded, 0))
        limit = self._max_event_size
        *lines, unfinished = bytes(self._held).split(b"\n")
        kept: List[bytes] = []
        block = place = size = 0
        for line in lines:
            place += len(line) + 1
            if size + len(line) > limit:
                return self._refuse(block)
            if not line:
                block, size, kept = place, 0, []
            elif line.partition(b":")[0] in _FIELDS:
                size += len(line)
                kept.append(line)
        size += len(unfinished)
        if size > limit:
            return self._refuse(block)
        self._held[block:] = b"\n".join((*kept, unfinished))
        self._measure_above = len(self._held) + limit - size
        return len(self._held)

    def _refuse(self, block: int) -> int:
        """Refuse the block that begins here, once those before it have been read."""
        if self._held.find(b"\n\n", 0, block) >= 0:
            return block
        self._measure_above = -1
        self._held.clear()
        raise StreamError(
            f"One event of the stream is larger than {self._max_event_size} bytes "
            f"or {MAX_EVENT_LINES} lines",
            code="event_too_large",
        )


def _lines_of(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
