"""The targets: each takes bytes, says what came of them, and raises if that must not be.

An input is nothing but bytes, so that one that fails can be kept as it is (`regressions.py`).
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple
from unittest.mock import patch

from flowmaestro import FlowMaestroError, WebhookVerificationError, webhooks
from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import StreamError
from flowmaestro_core.http.dates import parse_http_date
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.payloads.reply import RateLimit, error_from_response, retry_after
from flowmaestro_core.streams import sse
from flowmaestro_core.streams.sse import SseDecoder
from flowmaestro_core.webhooks import sign
from flowmaestro_transports.http11.content_coding import CodingError, ContentDecoder
from flowmaestro_transports.http11.framing import Chunked
from tests.harness.core import sse_reference
from tests.harness.fuzz.conversations import OPERATIONS, Reply, recorded, step

SECRET = "whsec_fuzz"
INFLATED_LIMIT = 100_000
SLOW = 3_000
"""Bytes beyond which the reference decoder, and steps of single bytes, are left out."""


class Target(NamedTuple):
    """What is fed, and the valid inputs that mutations begin with."""

    name: str
    feed: Callable[[bytes], str]
    corpus: Sequence[bytes]


def is_cut_short(data: bytes, corpus: Sequence[bytes]) -> bool:
    """Whether `data` is the beginning of a valid input, and not itself one."""
    return data not in corpus and any(valid.startswith(data) for valid in corpus)


def converse(name: str, corpus: Sequence[bytes], data: bytes) -> str:
    outcome = step(name, data)
    if outcome == "done" and isinstance(OPERATIONS[name](), Call) and is_cut_short(data, corpus):
        assert not Reply.read(data).body, "a reply that was cut short passed for a whole one"
    return outcome


def decode_events(data: bytes) -> str:
    whole = _decoded(SseDecoder(), [data])
    if len(data) <= SLOW:
        assert _decoded(SseDecoder(), _bytes(data)) == whole, "the cut of the bytes matters"
        interpreted = sse_reference.interpret(data)
        assert whole == [tuple(event) for event in interpreted.events], "not to the letter"
    with patch.object(sse, "MAX_EVENT_SIZE", 64):
        small = _decoded(SseDecoder(), [data])
    return "too large" if small is None else f"{min(len(whole or ()), 3)} events"


def _decoded(decoder: SseDecoder, pieces: Sequence[bytes]) -> Optional[List[object]]:
    events: List[object] = []
    try:
        for piece in pieces:
            events += map(tuple, decoder.feed(piece))
    except StreamError:
        return None
    return events


def decode_chunks(corpus: Sequence[bytes], data: bytes) -> str:
    whole = _unchunked([data])
    assert _unchunked(_bytes(data)) == whole, "the cut of the bytes matters"
    if whole is None:
        return "refused"
    _, finished, _ = whole
    assert not (finished and is_cut_short(data, corpus)), "a cut body passed for a whole one"
    return "whole" if finished else "unfinished"


def _unchunked(pieces: Sequence[bytes]) -> Optional[Tuple[bytes, bool, bytes]]:
    body = Chunked()
    content = b"".join(map(body.feed, pieces))
    return None if body.error is not None else (content, body.finished, body.rest)


def inflate(corpus: Sequence[bytes], data: bytes) -> str:
    name, _, body = data.partition(b"\n")
    coding = name.decode("latin-1")
    if "content-encoding" in _decoder(coding).headers:
        return "unsupported"
    whole = _inflated(coding, [body])
    if len(body) <= SLOW:
        assert _inflated(coding, _bytes(body)) == whole, "the cut of the bytes matters"
    if whole is None:
        return "refused"
    assert len(whole) <= INFLATED_LIMIT, "more than the limit"
    assert not (body and is_cut_short(data, corpus)), "a cut body passed for a whole one"
    return "whole"


def _decoder(coding: str) -> ContentDecoder:
    return ContentDecoder(Headers({"Content-Encoding": coding}), INFLATED_LIMIT)


def _inflated(coding: str, pieces: Sequence[bytes]) -> Optional[bytes]:
    inflater = _decoder(coding)
    try:
        return b"".join(map(inflater.feed, pieces)) + inflater.finish()
    except CodingError:
        return None


def read_error(data: bytes) -> str:
    reply = Reply.read(data)
    response = Response(reply.status, reply.headers, reply.body)
    error = error_from_response(response)
    assert isinstance(error, FlowMaestroError)
    for wait in (error.retry_after, retry_after(reply.headers)):
        assert wait is None or 0 <= wait < math.inf, "nobody can wait so long"
    RateLimit.from_headers(reply.headers)
    assert str(error)
    assert repr(error)
    return type(error).__name__


def read_date(data: bytes) -> str:
    moment = parse_http_date(data.decode("latin-1"))
    assert moment is None or math.isfinite(moment)
    return "no date" if moment is None else "date"


def parse_webhook(data: bytes) -> str:
    """The first line is the signature that was sent; the rest is the body."""
    offered, _, payload = data.partition(b"\n")
    right = sign(payload, SECRET)
    try:
        webhooks.parse(payload, offered, SECRET)
    except WebhookVerificationError:
        pass
    else:
        assert right in offered.decode("latin-1"), "a forged delivery was believed"
    try:
        event = webhooks.parse(payload, right, SECRET, tolerance=1e12)
    except WebhookVerificationError:
        return "refused"
    json.dumps(event)
    return "event"


def _bytes(data: bytes) -> List[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


_EVENTS = (
    b'event: connected\ndata: {"execution_id": "ex_1", "status": "running"}\n\n: keepalive\n\n',
    b'\xef\xbb\xbfid: 7\r\nevent: message:token\r\ndata: {"token": "Gr\xc3\xbc\xc3\x9fe"}\r\n\r\n',
    b"retry: 250\rdata: one\rdata:two\rdata\r\r",
    b"id\ndata\n\nid: a\0b\nevent:\ndata: \xe2\x80\xa8\n\n",
    b'event: execution:completed\ndata: {"outputs": {"a": 1}}\n\n' * 3,
)
_CHUNKED = (
    b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n",
    b'000A;name=value;quoted="a;b"\r\n0123456789\r\n0;last\r\nX-Checksum: abc\r\nEmpty:\r\n\r\n',
    b"%x\r\n%s\r\n0\r\n\r\n" % (700, b"x" * 700),
)
_DATES = (
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
)
_ERRORS = (
    b'401\nX-Request-ID: g-1\n\n{"error": {"code": "invalid_api_key", "message": "No"}, '
    b'"meta": {"request_id": "req_1"}}',
    b"429\nRetry-After: 7\nDate: Sun, 06 Nov 1994 08:49:37 GMT\nX-RateLimit-Remaining: 0\n\n"
    b'{"error": {"code": "rate_limit_exceeded", "message": "Slow", "details": {"limit": 60, '
    b'"window": "minute", "retry_after": 7}}}',
    b'402\n\n{"success": false, "error": "Insufficient credits", "details": {"needed": 3}}',
    b'500\n\n{"statusCode": 500, "code": "22P02", "error": "Internal Server Error", '
    b'"message": "invalid input syntax for type uuid: \\"x\\""}',
    b"502\nContent-Type: text/html\n\n<html><head><title>Bad gateway</title></head></html>",
    b"408\nretry-after-ms: 250\n\n",
)


def _compressed() -> List[bytes]:
    text = b'{"data": {"id": "wf_123", "name": "Hello"}}' * 20
    bare = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    member = gzip.compress(text, mtime=0)
    return [
        b"gzip\n" + member,
        b"gzip\n" + member + member,
        b"X-GZip\n" + gzip.compress(b"\0" * 10 * INFLATED_LIMIT, mtime=0),
        b"deflate\n" + zlib.compress(text),
        b"deflate\n" + bare.compress(text) + bare.flush(),
    ]


def _delivery() -> bytes:
    payload = (
        b'{"id": "evt_1", "event": "execution.completed", "created_at": '
        b'"2026-01-02T03:04:05.678Z", "data": {"execution_id": "ex_1"}}'
    )
    return sign(payload, SECRET).encode() + b"\n" + payload


def core_targets() -> Dict[str, Target]:
    """Everything that is fed without a transport."""
    targets = [
        Target(f"core {name}", partial(converse, name, corpus), corpus)
        for name, corpus in recorded().items()
    ]
    compressed = _compressed()
    targets += [
        Target("events", decode_events, _EVENTS),
        Target("chunks", partial(decode_chunks, _CHUNKED), _CHUNKED),
        Target("inflate", partial(inflate, compressed), compressed),
        Target("errors", read_error, _ERRORS),
        Target("dates", read_date, _DATES),
        Target("webhooks", parse_webhook, [_delivery()]),
    ]
    return {target.name: target for target in targets}
