"""The event-stream decoder, at every way of cutting the bytes, against a reference decoder."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any, Iterable, List, Optional, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowmaestro_core.errors import StreamError
from flowmaestro_core.streams import sse
from flowmaestro_core.streams.sse import MAX_EVENT_SIZE, ServerSentEvent, SseDecoder
from tests.harness.core import sse_reference as reference

BOM = b"\xef\xbb\xbf"
Outcome = Tuple[List[ServerSentEvent], str, Optional[int]]


def decode(pieces: Iterable[bytes]) -> Outcome:
    decoder = SseDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.last_event_id, decoder.retry


def byte_by_byte(data: bytes) -> List[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> List[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(marks, marks[1:])]


def at_every_cut(data: bytes) -> Outcome:
    """What `data` decodes to: the same whole, byte by byte, and cut in two anywhere."""
    whole = decode([data])
    assert decode(byte_by_byte(data)) == whole
    for place in range(len(data) + 1):
        assert decode([data[:place], data[place:]]) == whole, place
    return whole


MESSAGE = "message"
CASES = {
    "the deployed server's form": (
        b'event: connected\ndata: {"a":1}\n\n',
        [("connected", '{"a":1}')],
    ),
    "keepalive comments": (b": keepalive\n\n: keepalive\n\ndata: x\n\n", [(MESSAGE, "x")]),
    "one leading BOM is dropped": (BOM + b"data: x\n\n", [(MESSAGE, "x")]),
    "and only one": (BOM + BOM + b"data: x\n\ndata: y\n\n", [(MESSAGE, "y")]),
    "and only at the start": (b"\n" + BOM + b"data: x\n\n", []),
    "a BOM within data stays": (b"data: " + BOM + b"x\n\n", [(MESSAGE, "\ufeffx")]),
    "half a BOM is data": (b"\xef\xbbdata: x\n\ndata: y\n\n", [(MESSAGE, "y")]),
    "bad bytes become U+FFFD": (
        b"data: a\xff\xc3b\xed\xa0\x80\n\n",
        [(MESSAGE, "a\ufffd\ufffdb\ufffd\ufffd\ufffd")],
    ),
    "in names of events too": (b"event: \xff\ndata: x\n\n", [("\ufffd", "x")]),
    "UTF-8 of any length": ("data: é€🦆\n\n".encode(), [(MESSAGE, "é€🦆")]),
    "CR ends lines": (b"data: x\r\rdata: y\r\r", [(MESSAGE, "x"), (MESSAGE, "y")]),
    "CRLF ends lines once": (b"data: x\r\ndata: y\r\n\r\n", [(MESSAGE, "x\ny")]),
    "mixed line ends": (
        b"data: x\n\r\ndata: y\r\n\rdata: z\r\r\n",
        [(MESSAGE, "x"), (MESSAGE, "y"), (MESSAGE, "z")],
    ),
    "LF CR LF is one blank line": (b"data: x\n\r\n", [(MESSAGE, "x")]),
    "other separators do not end lines": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\n\n".encode(),
        [(MESSAGE, "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei")],
    ),
    "without data nothing is dispatched": (b"event: x\n\ndata: y\n\n", [(MESSAGE, "y")]),
    "a type lasts for one block": (
        b"event: x\ndata: 1\n\ndata: 2\n\n",
        [("x", "1"), (MESSAGE, "2")],
    ),
    "the last type wins": (b"event: x\nevent: y\ndata: 1\n\n", [("y", "1")]),
    "an empty type is the default": (b"event: x\nevent\ndata: 1\n\n", [(MESSAGE, "1")]),
    "data alone dispatches an empty string": (b"data\n\n", [(MESSAGE, "")]),
    "with a colon too": (b"data:\n\n", [(MESSAGE, "")]),
    "one final LF is removed, no more": (
        b"data\ndata\n\ndata: \ndata:\ndata\n\n",
        [(MESSAGE, "\n"), (MESSAGE, "\n\n")],
    ),
    "one space is stripped, no more": (
        b"data:  x \n\ndata:\tx\n\n",
        [(MESSAGE, " x "), (MESSAGE, "\tx")],
    ),
    "a value may hold colons": (b"data: a: b:c\n\n", [(MESSAGE, "a: b:c")]),
    "names are case-sensitive": (b"Data: x\nDATA: x\nEvent: y\ndata: z\n\n", [(MESSAGE, "z")]),
    "names are taken whole": (b" data: x\ndata : x\ndatax: x\ndata: y\n\n", [(MESSAGE, "y")]),
    "unknown fields are ignored": (b"foo: 1\nbar\ndata: x\n\n", [(MESSAGE, "x")]),
    "blank lines in plenty": (b"\n\n\r\n\r\rdata: x\n\n\n\n", [(MESSAGE, "x")]),
    "an unfinished block is no event": (b"data: x\n\ndata: y\n", [(MESSAGE, "x")]),
    "an unfinished line is no line": (b"data: x\n\ndata: y", [(MESSAGE, "x")]),
    "NUL is a character": (b"event: a\0b\ndata: c\0d\n\n", [("a\0b", "c\0d")]),
    "an empty stream": (b"", []),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_decoder_follows_the_specification(stream: bytes, expected: List[Tuple[str, str]]) -> None:
    events, _, _ = at_every_cut(stream)
    assert [(event.type, event.data) for event in events] == expected
    assert [tuple(event) for event in events] == reference.interpret(stream).events


IDS = {
    "an id persists": (b"id: 1\ndata: a\n\ndata: b\n\n", "1"),
    "an empty id resets it": (b"id: 1\ndata: a\n\nid:\ndata: b\n\n", ""),
    "so does a bare one": (b"id: 1\ndata: a\n\nid\n\n", ""),
    "it commits without data": (b"id: 1\n\n", "1"),
    "but not before the blank line": (b"id: 1\n\nid: 2\n", "1"),
    "nor in an unfinished block": (b"id: 1\ndata: a\n\nid: 2\ndata: b\n", "1"),
    "an id with NUL is ignored": (b"id: 1\n\nid: 2\0\ndata: a\n\n", "1"),
    "a comment after it dispatches nothing": (b"id: 1\n: hello\n\n", "1"),
    "the last one of a block counts": (b"id: 1\ndata: a\nid: 2\n\n", "2"),
    "it may be any text": ("id: é 🦆\ndata: a\n\n".encode(), "é 🦆"),
    "bad bytes in it become U+FFFD": (b"id: \xff\n\n", "\ufffd"),
}


@pytest.mark.parametrize(("stream", "last"), IDS.values(), ids=IDS.keys())
def test_decoder_tracks_last_event_id(stream: bytes, last: str) -> None:
    _, last_event_id, _ = at_every_cut(stream)
    assert last_event_id == reference.interpret(stream).last_event_id == last


def test_the_next_connection_starts_with_the_id_of_this_one() -> None:
    decoder = SseDecoder("7")
    assert decoder.last_event_id == "7"
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent("message", "x")]
    assert decoder.last_event_id == "7"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1500", 1500),
        (b"0", 0),
        (b"000", 0),
        (b"0" * 40 + b"250", 250),
        (b"", None),
        (b" 5", None),  # the first space is stripped with the colon, this is the second
        (b"5 ", None),
        (b"-5", None),
        (b"+5", None),
        (b"1.5", None),
        (b"1e3", None),
        (b"0x10", None),
        (b"1_000", None),
        ("٣".encode(), None),
        ("５".encode(), None),  # noqa: RUF001
        ("²".encode(), None),
    ],
)
def test_retry_takes_ascii_digits_only(value: bytes, expected: Optional[int]) -> None:
    assert at_every_cut(b"retry: " + value + b"\n") == ([], "", expected)
    assert at_every_cut(b"retry: 42\nretry: " + value + b"\n")[2] == (
        42 if expected is None else expected
    )


def test_an_endless_retry_is_a_very_long_one() -> None:
    assert at_every_cut(b"retry: " + b"9" * 5000 + b"\n")[2] == 999_999_999_999_999_999


def test_retry_counts_at_once_and_without_an_event() -> None:
    decoder = SseDecoder()
    assert decoder.retry is None
    assert decoder.feed(b"retry: 10\nretry\n") == []
    assert decoder.retry == 10


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_dispatched_with_the_first_byte_that_completes_it(end: bytes) -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: x" + end) == []
    assert decoder.feed(end[:1]) == [ServerSentEvent("message", "x")]
    assert decoder.feed(end[1:]) == []
    assert decoder.feed(b"data: y" + end + end) == [ServerSentEvent("message", "y")]


# Generated streams

FRAGMENTS = st.sampled_from(
    [
        *(b"data", b"event", b"id", b"retry", b"dat", b"Data", b"foo"),
        *(b":", b": ", b" ", b":  ", b"::", b"\t"),
        *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\n\r"),
        *(b"data: x\n\n", b"data: y\n", b"event: z\n", b"id: 1\n", b"retry: 9\n", b": c\n"),
        *(
            BOM,
            b"\xef",
            b"\xef\xbb",
            b"\0",
            b"\xff",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9f",
            b"\xed\xa0\x80",
        ),
        *(
            "é".encode(),
            "🦆".encode(),
            "\u2028".encode(),
            "\x85".encode(),
            b"\x0b",
            b"\x0c",
            b"\x1c",
        ),
        *(b"0", b"7", b"00012", b"message", b"{}"),
    ]
)
STREAMS = st.one_of(
    st.lists(st.one_of(FRAGMENTS, st.binary(max_size=3)), max_size=40).map(b"".join),
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\n", b"\r", b"d", b"data", b"id", b":", b"1"]), max_size=30).map(
        b"".join
    ),
)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 1000), max_size=10))
@example(stream=b"\xef\xbb\xbf\xef\xbb\xbf\ndata\r\n\r", cuts=[1, 2, 4])
def test_the_decoder_agrees_with_the_reference_however_bytes_are_cut(
    stream: bytes, cuts: List[int]
) -> None:
    expected = reference.interpret(stream)
    for pieces in ([stream], byte_by_byte(stream), cut(stream, cuts)):
        events, last_event_id, retry = decode(pieces)
        assert [tuple(event) for event in events] == expected.events
        assert last_event_id == expected.last_event_id
        assert retry == expected.retry


@given(stream=STREAMS)
def test_cutting_the_bytes_in_two_changes_nothing(stream: bytes) -> None:
    at_every_cut(stream)


@given(
    sent=st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1
            ),
            st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])),
        ),
        max_size=8,
    ),
    end=st.sampled_from(["\n", "\r", "\r\n"]),
    cuts=st.lists(st.integers(0, 1000), max_size=6),
)
def test_encoded_events_decode_to_equal_events(
    sent: List[Tuple[str, str]], end: str, cuts: List[int]
) -> None:
    text = "".join(
        f"event: {kind}{end}"
        + "".join(f"data: {line}{end}" for line in data.split("\n"))
        + f"{end}"
        for kind, data in sent
    )
    events, _, _ = decode(cut(text.encode(), cuts))
    assert [(event.type, event.data) for event in events] == sent


# Size


@pytest.mark.parametrize(
    "begun",
    [b"data: 3456789", b"data\ndata\ndata", b": one\n: two\n: 3", b"data: 1\r\nid: 1\r\n"],
)
def test_an_event_that_does_not_end_is_refused(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_SIZE", 12)
    decoder = SseDecoder()
    with pytest.raises(StreamError, match="larger than 12 bytes") as refusal:
        list(map(decoder.feed, byte_by_byte(begun)))
    assert refusal.value.code == "event_too_large"


def test_complete_events_do_not_count_against_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_SIZE", 12)
    decoder = SseDecoder()
    assert [event.data for event in decoder.feed(b"data: 3456789\n\ndata: 345678")] == ["3456789"]
    assert [event.data for event in decoder.feed(b"\n\n")] == ["345678"]
    assert [event.data for event in decoder.feed(b"data: ok\n\ndata: far too long")] == ["ok"]
    with pytest.raises(StreamError):
        decoder.feed(b"")


def test_the_default_size_is_sixteen_mebibytes() -> None:
    assert MAX_EVENT_SIZE == 16 * 1024 * 1024
    data = b"x" * (MAX_EVENT_SIZE - len("data:"))
    assert len(SseDecoder().feed(b"data:" + data + b"\n\n")[0].data) == len(data)
    with pytest.raises(StreamError):
        SseDecoder().feed(b"data: " + data)


# Work


class Counted(bytes):
    """Bytes that count what is copied when they are added to others."""

    copied = 0

    def __add__(self, other: Any) -> bytes:
        Counted.copied += len(self) + len(other)
        return bytes(self) + other

    def __radd__(self, other: Any) -> bytes:
        Counted.copied += len(self) + len(other)
        return other + bytes(self)


def test_a_long_line_in_small_pieces_is_joined_once() -> None:
    """Linear in time: a megabyte in 64-byte pieces is copied a fixed number of times."""
    pieces = [Counted(b"data: ".ljust(64, b"x")), *[Counted(b"x" * 64)] * 16_383]
    calls: List[str] = []

    def note(_frame: Any, event: str, what: Any) -> None:
        if event == "c_call" and what.__name__ in {"join", "replace", "split"}:
            calls.append(what.__name__)

    decoder = SseDecoder()
    Counted.copied = 0
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for piece in pieces:
            decoder.feed(piece)
        whole_line_calls = len(calls)
        events = decoder.feed(b"\n\n")
    finally:
        sys.setprofile(before)
    assert [len(event.data) for event in events] == [64 * 16_384 - len("data: ")]
    assert whole_line_calls <= 1, "the line is put together before its end has come"
    assert len(calls) < 10
    assert Counted.copied <= 2 * 64


@pytest.mark.parametrize(
    "noise",
    [b"\n", b"\r", b"\r\n", b":\n", b":\n\n", b": keepalive\n\n", b"x\n\n", b"\n:\r\n\r\n"],
)
@pytest.mark.parametrize("before", [b"", b"event: a\ndata: 1\n\n", b"id: 1\ndata: 1\n\n"])
def test_many_comment_lines_are_skipped_at_once(noise: bytes, before: bytes) -> None:
    """As a compressed stream may bring them: 60 MiB of blank lines in 61 KB."""
    piece = before + noise * (64 * 1024 // len(noise))
    decoder, steps = SseDecoder(), 0

    def note(_frame: Any, _event: str, _what: Any) -> None:
        nonlocal steps
        steps += 1

    previous = sys.getprofile()
    sys.setprofile(note)
    try:
        decoder.feed(piece)
        decoder.feed(b"\n\n")
    finally:
        sys.setprofile(previous)
    assert steps < 1000


def test_lines_that_are_never_read_cost_no_more_than_their_bytes() -> None:
    decoder = SseDecoder()
    piece = b"data\n" * (1 << 16)
    tracemalloc.start()
    try:
        for _ in range(MAX_EVENT_SIZE // len(piece)):
            assert decoder.feed(piece) == []
        with pytest.raises(StreamError):
            decoder.feed(piece)
        assert decoder.retry is None  # which is looked for when the stream is lost
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_EVENT_SIZE
    finally:
        tracemalloc.stop()
