"""A slow event-stream decoder, written from the specifications and from nothing else.

One function for each production and each step of the text, over a whole stream at once:
https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an event stream" and
"Interpreting an event stream", and https://encoding.spec.whatwg.org/, "UTF-8 decoder".
"""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Optional, Tuple

REPLACEMENT = "\ufffd"


class Interpreted(NamedTuple):
    """What a whole stream means: `(type, data, last event id, own id)` tuples, and what is left."""

    events: List[Tuple[str, str]]
    last_event_id: str
    retry: Optional[int]


def utf8_decode(stream: bytes) -> str:
    """The encoding standard's state machine, byte by byte; one leading BOM is dropped."""
    output: List[str] = []
    code_point, seen, needed, lower, upper = 0, 0, 0, 0x80, 0xBF
    place = 0
    while place < len(stream):
        byte = stream[place]
        place += 1
        if needed == 0:
            if byte <= 0x7F:
                output.append(chr(byte))
            elif 0xC2 <= byte <= 0xDF:
                needed, code_point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                lower = 0xA0 if byte == 0xE0 else lower
                upper = 0x9F if byte == 0xED else upper
                needed, code_point = 2, byte & 0xF
            elif 0xF0 <= byte <= 0xF4:
                lower = 0x90 if byte == 0xF0 else lower
                upper = 0x8F if byte == 0xF4 else upper
                needed, code_point = 3, byte & 0x7
            else:
                output.append(REPLACEMENT)
            continue
        if not lower <= byte <= upper:
            code_point, seen, needed, lower, upper = 0, 0, 0, 0x80, 0xBF
            place -= 1
            output.append(REPLACEMENT)
            continue
        lower, upper = 0x80, 0xBF
        code_point = (code_point << 6) | (byte & 0x3F)
        seen += 1
        if seen == needed:
            output.append(chr(code_point))
            code_point, seen, needed = 0, 0, 0
    if needed:
        output.append(REPLACEMENT)
    text = "".join(output)
    return text[1:] if text[:1] == "\ufeff" else text


def complete_lines(text: str) -> Iterator[str]:
    """`end-of-line = ( cr lf / cr / lf )`; what no end follows is discarded."""
    line = ""
    place = 0
    while place < len(text):
        character = text[place]
        place += 1
        if character not in "\r\n":
            line += character
            continue
        if character == "\r" and text[place : place + 1] == "\n":
            place += 1
        yield line
        line = ""


def split_field(line: str) -> Tuple[str, str]:
    """Everything before the first colon and everything after it, less one leading space."""
    if ":" not in line:
        return line, ""
    colon = line.index(":")
    value = line[colon + 1 :]
    return line[:colon], value[1:] if value[:1] == " " else value


def interpret(stream: bytes) -> Interpreted:
    """Process the lines of a whole stream."""
    events: List[Tuple[str, str]] = []
    last_event_id, retry = "", None
    data, event_type, id_buffer = "", "", ""
    for line in complete_lines(utf8_decode(stream)):
        if line == "":
            last_event_id = id_buffer
            if data != "":
                content = data[:-1] if data[-1] == "\n" else data
                events.append((event_type or "message", content))
            data, event_type = "", ""
            continue
        if line[0] == ":":
            continue
        field, value = split_field(line)
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                id_buffer = value
        elif field == "retry" and value and all(digit in "0123456789" for digit in value):
            retry = int(value)
    return Interpreted(events, last_event_id, retry)
