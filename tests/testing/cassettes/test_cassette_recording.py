"""What is recorded of replies: pieces, failures, silence where a reader let go."""

from __future__ import annotations

import contextlib
from functools import partial

import anyio
import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import (
    AsyncScriptedTransport,
    Cassette,
    MemoryTransport,
    Quiet,
    ScriptedTransport,
    UnusedScriptWarning,
)
from flowmaestro.testing.cassettes import jsonlines
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead, TransportFailure
from flowmaestro_transports.contract import Releasable
from tests.harness.testing.side_by_side import BACKENDS

KEY = "fm_live_never_seen"


def get(path, **fields):
    return Request("GET", f"https://h/api/v1{path}", fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jsonl"


def test_a_stream_has_its_pieces_and_a_failure_its_phase(path):
    head = ResponseHead(200, {"Content-Type": "text/event-stream", "Content-Length": "7"})
    kept = ResponseHead(200, {"Content-Type": "text/event-stream"})
    cut = TransportFailure(Phase.REPLY_BROKEN, "cut")
    refused = TransportFailure(Phase.NOT_SENT, "refused")
    late = TransportFailure(Phase.MAYBE_PROCESSED, "late", timed_out=True)
    pieces = [b"a", b"b", Quiet(40), b"c\xff", Quiet(1)]
    script = [[Quiet(0.5), head, *pieces], [head, b"x", Quiet(2), cut], refused, [Quiet(9), late]]
    with Cassette(path) as cassette:
        transport, spells = cassette.transport(ScriptedTransport(script)), 0
        for number in range(4):
            with contextlib.suppress(TransportFailure):
                body = transport.open(get(f"/{number}"), 30)
                spells += sum(piece is None for piece in iter(partial(body.read, 30), b""))
    assert spells == 1
    recorded = [
        [
            (it.phase, it.message, it.timed_out) if isinstance(it, TransportFailure) else it
            for it in exchange.steps
        ]
        for exchange in jsonlines.read("a", path.read_bytes())
    ]
    assert recorded == [
        [Quiet(0.5), kept, *pieces],
        [kept, b"x", Quiet(2), (Phase.REPLY_BROKEN, "cut", False)],
        [(Phase.NOT_SENT, "refused", False)],
        [Quiet(9), (Phase.MAYBE_PROCESSED, "late", True)],
    ]


def test_a_body_closed_early_is_recorded_as_silence(path):
    head, event = ResponseHead(200, {}), b"data: 1\n\n"
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([[head, event, b"more"], [head, event]]))
        body = transport.open(get("/1"), 30)
        assert body.read(1) == event
        body.close()
        with pytest.raises(TransportFailure):
            body.read(1)
        transport.open(get("/2"), 30)  # and left open to the end
    with Cassette(path) as cassette:
        body = cassette.transport().open(get("/1"), 30)
        assert [body.read(1), body.read(1000), body.read(1000)] == [event, None, None]
        assert cassette.transport().open(get("/2"), 30).read(1000) is None


@BACKENDS
def test_a_body_may_be_let_go_of_without_waiting(path, backend):
    async def main():
        with Cassette(path) as cassette:
            inner = AsyncScriptedTransport([[ResponseHead(200, {}), b"a", b"b"]])
            transport = cassette.async_transport(inner)
            body = await transport.open(get("/1"), 5)
            assert isinstance(body, Releasable)
            assert (await body.read(5), inner.open_bodies) == (b"a", 1)
            body.release()
            assert inner.open_bodies == 0
            assert "AsyncScriptedTransport" in repr(transport)
        with Cassette(path) as cassette:
            body = await cassette.async_transport().open(get("/1"), 5)
            assert [await body.read(5), await body.read(5)] == [b"a", None]

    anyio.run(main, backend=backend)


def test_call_on_closed_transport_is_not_recorded(path):
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([]))
        transport.close()
        for call in (transport.send, transport.open):
            with pytest.raises(RuntimeError, match="closed"):
                call(get("/1"), 5)
    assert not path.exists()


@BACKENDS
def test_a_cancelled_call_is_silence(path, backend):
    async def main():
        with Cassette(path) as cassette:
            transport = cassette.async_transport(AsyncScriptedTransport([Response(200, {})]))
            with anyio.CancelScope() as scope:
                scope.cancel()
                await transport.send(get("/1"), 5)
            await transport.close()
        transport = Cassette(path).async_transport()
        with pytest.raises(TransportFailure, match="no response was received in time"):
            await transport.send(get("/1"), 5)

    with pytest.warns(UnusedScriptWarning):
        anyio.run(main, backend=backend)


def test_a_relative_path_means_where_the_cassette_was_made(tmp_path, monkeypatch, fake):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Cassette("a.jsonl") as cassette:
        transport = cassette.transport(MemoryTransport(fake))
        with FlowMaestroClient(fake.api_key, transport=transport) as client:
            client.workflows.list()
        monkeypatch.chdir("elsewhere")
    assert (tmp_path / "a.jsonl").exists()
