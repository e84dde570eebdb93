"""Raw bytes over real sockets: what each transport makes of replies that are none."""

from __future__ import annotations

import gc
import gzip
import socketserver
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Dict, Iterator, List, Sequence, Union

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, FlowMaestroError, StreamTimes
from flowmaestro.testing.conformance.runner import run_to_its_end
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.fuzz.targets import is_cut_short
from tests.harness.runners import RUNNERS, Runner
from tests.harness.testing.one_face import Awaited

AT_ONCE = 16
TIMEOUT = 2.0
HUNG = 30.0
"""Seconds: the client's own limit, and what nobody has to wait for."""

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
    with _serving(inputs) as url:
        if runner.backend is None:
            return _ask_in_threads(runner, url, kind, inputs)
        return anyio.run(_ask_in_tasks, runner, url, kind, inputs, backend=runner.backend)


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


def _ask_in_threads(runner: Runner, url: str, kind: str, inputs: Sequence[bytes]) -> List[Outcome]:
    client = FlowMaestroClient(base_url=url, transport=runner.make(), **OPTIONS)
    api = Awaited(client)

    def ask(number: int, data: bytes) -> Outcome:
        outcome: Outcome = run_to_its_end(_ask(runner, api, kind, number, data))
        return outcome

    with client, ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(ask, range(len(inputs)), inputs, timeout=HUNG + len(inputs)))


async def _ask_in_tasks(
    runner: Runner, url: str, kind: str, inputs: Sequence[bytes]
) -> List[Outcome]:
    outcomes: List[Outcome] = [TimeoutError("no end")] * len(inputs)
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(number: int, data: bytes) -> None:
        async with limiter:
            with anyio.move_on_after(HUNG):
                outcomes[number] = await _ask(runner, api, kind, number, data)

    client = AsyncFlowMaestroClient(base_url=url, transport=runner.make(), **OPTIONS)
    async with client as api, anyio.create_task_group() as group:
        for number, data in enumerate(inputs):
            group.start_soon(ask, number, data)
    return outcomes


@contextmanager
def _serving(inputs: Sequence[bytes]) -> Iterator[str]:
    """A server that answers the request for number n with the n-th input, and hangs up.

    A stream that makes progress and never ends is opened again without limit, as it should be.
    So the server knows nothing of an execution any more after a few requests for its events.
    """
    asked: Counter[bytes] = Counter()

    class Handler(socketserver.StreamRequestHandler):
        timeout = HUNG

        def handle(self) -> None:
            with suppress(OSError):
                line = self.rfile.readline()
                if not line:
                    return  # The client was closed while it connected.
                target = line.split(b" ")[1]
                while self.rfile.readline().strip():
                    pass
                number = target.replace(b"/events", b"").rpartition(b"/")[2]
                asked[number] += 1
                known = number.isdigit() and asked[number] <= _ANSWERS
                self.wfile.write(inputs[int(number)] if known else _NOT_FOUND)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 1024
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.05))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


_ANSWERS = 5
_NOT_FOUND = _sized(b"404 Not Found", b"")
