"""The file of a cassette: every exchange comes back from it, and what is damaged is told where."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro.testing import CassetteError, Quiet
from flowmaestro.testing.cassettes import jsonlines
from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead, TransportFailure

HEAD = ResponseHead(200, {"Content-Type": "text/event-stream"})
ASK = Request("POST", "https://h/api/v1/workflows/wf_1/execute", {"A": "b"}, b'{"inputs":{}}')
STREAM = RecordedExchange(
    ASK,
    (Quiet(0.25), HEAD, b"event: connected\n", b"\n", Quiet(31.5), b": keepalive\n\n", Quiet()),
)
FAILED = RecordedExchange(
    Request("GET", "https://h/api/v1/workflows", {}),
    (Quiet(2), TransportFailure(Phase.MAYBE_PROCESSED, "no reply in time", timed_out=True)),
)
WHOLE = RecordedExchange(
    Request("GET", "https://h/api/v1/workflows?page=2", {}),
    (Quiet(0.1), ResponseHead(200, {}), b'{"data":["Gr\xc3\xbc\xc3\x9fe"]}', Quiet(0.1)),
)

WRITTEN = (
    """\
{"kind": "cassette", "version": 1}
{"kind": "request", "method": "POST", "url": "https://h/api/v1/workflows/wf_1/execute", \
"headers": [["A", "b"]], "json": {"inputs": {}}}
{"kind": "head", "after": 0.25, "status": 200, "headers": [["Content-Type", "text/event-stream"]]}
{"kind": "chunk", "after": 0.0, "text": "event: connected\\n"}
{"kind": "chunk", "after": 0.0, "text": "\\n"}
{"kind": "chunk", "after": 31.5, "text": ": keepalive\\n\\n"}
{"kind": "silence"}
{"kind": "request", "method": "GET", "url": "https://h/api/v1/workflows", "headers": []}
{"kind": "failure", "after": 2.0, "phase": "maybe processed", "message": "no reply in time", \
"timed_out": true, "permanent": false}
{"kind": "request", "method": "GET", "url": "https://h/api/v1/workflows?page=2", "headers": []}
{"kind": "head", "after": 0.1, "status": 200, "headers": []}
{"kind": "chunk", "after": 0.0, "json": {"data": ["Grüße"]}}
{"kind": "end", "after": 0.1}
{"kind": "end of cassette", "exchanges": 3, "lines": 13}
"""
).encode()


def plain(exchange):
    """As values that can be compared: failures by what they say, quiet as seconds before a step."""
    seconds, steps = [0.0], []
    for step in exchange.steps:
        if isinstance(step, Quiet):
            seconds[-1] += step.seconds
            continue
        if isinstance(step, TransportFailure):
            step = (step.phase, step.message, step.timed_out, step.permanent)
        steps.append(step)
        seconds.append(0.0)
    request = exchange.request
    times = [round(each, 6) for each in seconds]
    return request.method, request.url, request.headers.pairs, request.body, steps, times


def test_exchanges_are_written_as_readable_lines():
    assert jsonlines.written([STREAM, FAILED, WHOLE]).decode() == WRITTEN.decode()


def test_written_exchanges_are_read_back():
    exchanges = jsonlines.read("a.jsonl", WRITTEN)
    assert [plain(it) for it in exchanges] == [plain(it) for it in (STREAM, FAILED, WHOLE)]
    assert [it.line for it in exchanges] == [2, 8, 10]


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
FIELDS = st.lists(st.tuples(TEXT, st.text(st.characters(), max_size=20)), max_size=3).map(Headers)
SECONDS = st.integers(0, 10**10).map(lambda number: Quiet(round(number / 1e6, 6)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(str.encode),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value, separators=(",", ":")).encode()),
)
HOW = {"timed_out": st.booleans(), "permanent": st.booleans()}
FAILURES = st.builds(TransportFailure, st.sampled_from(Phase), TEXT, **HOW)
BROKEN = st.builds(TransportFailure, st.just(Phase.REPLY_BROKEN), TEXT, **HOW)
NO_REPLY = st.tuples(SECONDS, FAILURES) | st.just((Quiet(),))
REPLIES = st.builds(
    lambda quiet, head, body, last: (quiet, head, *body, *last),
    SECONDS,
    st.builds(ResponseHead, st.integers(100, 599), FIELDS),
    st.lists(BODIES | SECONDS, max_size=6),
    st.just(()) | st.tuples(BROKEN) | st.just((Quiet(),)),
)
EXCHANGES = st.builds(
    lambda method, url, fields, body, steps: RecordedExchange(
        Request(method, url, fields, body), tuple(steps)
    ),
    st.sampled_from(["GET", "POST", "DELETE"]),
    TEXT,
    FIELDS,
    BODIES | st.just(b""),
    NO_REPLY | REPLIES,
)


@settings(max_examples=50)
@given(st.lists(EXCHANGES, max_size=2))
def test_whatever_was_recorded_comes_back(exchanges):
    data = jsonlines.written(exchanges)
    back = jsonlines.read("a.jsonl", data)
    assert [plain(found) for found in back] == [plain(it) for it in exchanges]
    assert jsonlines.written(back) == data


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_wherever_it_is_cut_it_says_so(newline):
    data = WRITTEN.replace(b"\n", newline)
    whole = len(data) - len(newline)  # without its last newline nothing is missing
    for length in range(whole):
        with pytest.raises(CassetteError, match=r"^a\.jsonl, line \d+: ") as caught:
            jsonlines.read("a.jsonl", data[:length])
        if length > 40:
            assert "truncated" in str(caught.value), data[:length]
    assert len(jsonlines.read("a.jsonl", data[:whole])) == 3


WRONG = {
    "an unknown version": ('"version": 1', '"version": 7', 1, "version 7 is unknown"),
    "no version": (', "version": 1', "", 1, "version null is unknown"),
    "another kind of file": ('"kind": "cassette"', '"kind": "tape"', 1, "this is not a cassette"),
    "no JSON": ('{"kind": "silence"}', "silence", 7, "this is not JSON"),
    "no object": ('{"kind": "silence"}', "[]", 7, "must be a JSON object"),
    "an unknown kind": ('"kind": "silence"', '"kind": "noise"', 7, 'the kind "noise" is unknown'),
    "a line too many": (
        '{"kind": "silence"}',
        '{"kind": "silence"}\n{"kind": "end"}',
        8,
        "has ended before",
    ),
    "a missing end": ('{"kind": "silence"}\n', "", 6, "truncated after this line"),
    "a time that runs back": (
        '"after": 31.5',
        '"after": -1',
        6,
        "after must be a finite number of at least 0",
    ),
    "a time that is none": ('"after": 31.5', '"after": "1"', 6, "after must be a number"),
    "a bad status": ('"status": 200', '"status": "200"', 3, "status must be of type int"),
    "an unknown phase": ('"maybe processed"', '"perhaps"', 9, "phase must be one of"),
    "a phase in the body": (
        '{"kind": "silence"}',
        '{"kind": "failure", "phase": "not sent", "message": "", "timed_out": false}',
        7,
        "can only be REPLY_BROKEN",
    ),
    "a chunk of nothing": ('"text": "\\n"', '"text": ""', 7, "not a piece of a body"),
    "bad fields": ('[["A", "b"]]', '[["A", 1]]', 2, "pairs of str"),
    "no method": ('"method": "POST", ', "", 2, "method must be of type str, not null"),
    "a reply without a request": (
        '{"kind": "request", "method": "POST"',
        '{"kind": "head", "method": "POST"',
        2,
        "a request must come first",
    ),
    "one exchange less": ('"exchanges": 3', '"exchanges": 4', 14, "4 exchanges were written"),
    "something behind the end": ('"lines": 13}', '"lines": 13}\n{}', 15, "after the end"),
    "a piece less": (
        '{"kind": "chunk", "after": 0.0, "text": "\\n"}\n',
        "",
        13,
        "13 lines were written before this one, not 12",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_malformed_cassette_is_named_with_file_and_line(name):
    old, new, line, message = WRONG[name]
    data = WRITTEN.decode().replace(old, new, 1)
    assert data != WRITTEN.decode()
    with pytest.raises(CassetteError, match=rf"^dir/a\.jsonl, line {line}: .*{message}"):
        jsonlines.read("dir/a.jsonl", data.encode())


def test_bodies_that_are_no_text():
    deep = 600 * "[" + 600 * "]"  # which a caller deep down in a stack could not read
    bodies = (b"\xff\x00", b"[1, 2]", b"NaN", b'{"a":1,"a":2}', deep.encode())
    lines = jsonlines.written([RecordedExchange(ASK, (HEAD, *bodies))]).decode().splitlines()
    assert [json.loads(line) for line in lines[3:8]] == [
        {"kind": "chunk", "after": 0.0, "base64": "/wA="},
        {"kind": "chunk", "after": 0.0, "text": "[1, 2]"},
        {"kind": "chunk", "after": 0.0, "text": "NaN"},
        {"kind": "chunk", "after": 0.0, "text": '{"a":1,"a":2}'},
        {"kind": "chunk", "after": 0.0, "text": deep},
    ]


def test_a_field_that_is_no_text():
    fields = Headers([("X-Odd", "Gr\udcfc\udcdfe")])
    exchange = RecordedExchange(ASK, (ResponseHead(200, fields),))
    (found,) = jsonlines.read("a", jsonlines.written([exchange]))
    assert found.steps == exchange.steps


def test_quiet_is_told_once():
    steps = (Quiet(1), Quiet(0), Quiet(2), HEAD, Quiet(0), b"a", Quiet(math.inf))
    (found,) = jsonlines.read("a", jsonlines.written([RecordedExchange(ASK, steps)]))
    assert found.steps == (Quiet(3), HEAD, b"a", Quiet())
