"""Raw bytes over real sockets: what each transport makes of replies that are none."""

from __future__ import annotations

import gc
import gzip
import warnings
from collections import Counter
from typing import Any, Dict, List, Sequence, Union

from flowmaestro import FlowMaestroError, StreamTimes
from flowmaestro.testing.conformance.scripted_server import Peer, ScriptedServer
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.faults.clients import all_at_once, client_over
from tests.harness.fuzz.conversations import is_cut_short
from tests.harness.runners import RUNNERS, Runner

AT_ONCE = 16
TIMEOUT = 10.0
HUNG = 30.0
"""Seconds: the client's own limit, and after how many a use counts as hung on a busy machine."""

OPTIONS: Dict[str, Any] = {
    "api_key": "fm_live_fuzz",
    "timeout": TIMEOUT,
    "max_retries": 0,
    "stream_times": StreamTimes(
        bytes_idle=TIMEOUT, reconnect_base=0.001, reconnect_max=0.001, reconnect_for=0.001
    ),
}

GET, STREAM = KINDS = ("get", "stream")

Outcome = Union[str, BaseException]


_JSON = b'{"data": {"id": "wf_123", "name": "Hello", "inputs": null}, "meta": {"request_id": "r"}}'
_FIELDS = b"Content-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
_SSE = (
    b'event: connected\ndata: {"execution_id": "ex_1", "status": "running"}\n\n: keepalive\n\n'
    b'id: 2\nevent: execution:completed\ndata: {"outputs": {"a": 1}}\n\n'
)


_LAST_CHUNK = b"0\r\n\r\n"


def _chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def _head(status: bytes, *fields: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in fields)
    return b"HTTP/1.1 " + status + b"\r\n" + _FIELDS + lines + b"\r\n"


def _sized(status: bytes, body: bytes, *fields: bytes) -> bytes:
    return _head(status, b"Content-Length: %d" % len(body), *fields) + body


CORPORA: Dict[str, Sequence[bytes]] = {
    GET: (
        _sized(b"200 OK", _JSON),
        _head(b"200 OK", b"Transfer-Encoding: chunked") + _chunked(_JSON[:30], _JSON[30:]),
        _sized(b"200 OK", gzip.compress(_JSON, mtime=0), b"Content-Encoding: gzip"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + _sized(b"200 OK", _JSON),
        _head(b"200 OK", b"Connection: close") + _JSON,
        b"HTTP/1.0 200 OK\r\n\r\n" + _JSON,
        _sized(b"404 Not Found", b'{"error": {"code": "resource_not_found", "message": "No"}}'),
        _sized(b"503 Service Unavailable", b"<h1>Later</h1>", b"Retry-After: 3"),
        _sized(b"307 Temporary Redirect", b"", b"Location: /api/v1/workflows/elsewhere"),
    ),
    STREAM: tuple(
        head.replace(b"application/json", b"text/event-stream") + body
        for head, body in (
            (_head(b"200 OK", b"Transfer-Encoding: chunked"), _chunked(_SSE[:90], _SSE[90:])),
            (_head(b"200 OK", b"Content-Length: %d" % len(_SSE)), _SSE),
            (_head(b"200 OK", b"Connection: close"), _SSE),
        )
    ),
}


def feed_all(name: str, kind: str, inputs: Sequence[bytes]) -> List[Outcome]:
    """What each input comes to over the transport `name`: a word, or what must not be raised.

    A `ResourceWarning` is for an input whose socket is left to the garbage collector.
    """
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        outcomes = _fed(RUNNERS[name], kind, inputs)
        gc.collect()
    if not heard:
        return outcomes
    if len(inputs) == 1:
        return [ResourceWarning(str(heard[0].message))]
    return [feed_all(name, kind, [data])[0] for data in inputs]


def _fed(runner: Runner, kind: str, inputs: Sequence[bytes]) -> List[Outcome]:
    with _serving(inputs) as server:

        async def ask(transport: Any, number: int) -> Outcome:
            api = client_over(runner, transport, base_url=server.url, **OPTIONS)
            return await _ask(runner, api, kind, number, inputs[number])

        return all_at_once(runner, ask, range(len(inputs)), AT_ONCE, HUNG)


async def _ask(runner: Runner, api: Any, kind: str, number: int, data: bytes) -> Outcome:
    try:
        if kind == GET:
            await api.workflows.get(str(number))
            if not (runner.declares("a-last-chunk-cut-short") and _lacks_its_end(data)):
                assert not is_cut_short(data, CORPORA[GET]), "a cut reply passed for a whole one"
        else:
            types = [event["type"] async for event in api.executions.stream(str(number))]
            assert types[-1] in EXECUTION_TERMINAL, "an end without a last event"
    except FlowMaestroError as error:
        return type(error).__name__
    except Exception as error:
        return error
    return "done"


def _lacks_its_end(data: bytes) -> bool:
    """Whether it is a valid reply but for its last chunk, which breaks off."""
    missing = (_LAST_CHUNK[begun:] for begun in range(1, len(_LAST_CHUNK)))
    return any(data + rest in CORPORA[GET] for rest in missing)


def _serving(inputs: Sequence[bytes]) -> ScriptedServer:
    """A server that answers the request for number n with the n-th input, and hangs up.

    A stream that makes progress and never ends is opened again without limit, as it should be.
    So the server knows nothing of an execution any more after a few requests for its events.
    """
    asked: Counter[str] = Counter()

    def handler(peer: Peer) -> None:
        request = peer.read_request()
        if request is not None:
            number = request.target.replace("/events", "").rpartition("/")[2]
            asked[number] += 1
            known = number.isdigit() and asked[number] <= _ANSWERS
            peer.send(inputs[int(number)] if known else _NOT_FOUND)

    return ScriptedServer(handler)


_ANSWERS = 5
_NOT_FOUND = _sized(b"404 Not Found", b"")
