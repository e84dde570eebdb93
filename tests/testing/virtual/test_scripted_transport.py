"""The scripted transport: every odd thing happens as it was told, in virtual time."""

from __future__ import annotations

import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, TimeoutError
from flowmaestro.testing import (
    AsyncScriptedTransport,
    Quiet,
    ScriptedTransport,
    UnusedScriptWarning,
)
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead, TransportFailure

KEY = "fm_live_never_seen"
GET = Request("GET", "https://h/api/v1/workflows", {})
HEAD = ResponseHead(200, {"Content-Type": "text/event-stream"})
FOUND = Response(200, {}, b'{"data": {"id": "wf_1"}}')
REFUSED = TransportFailure(Phase.NOT_SENT, "refused")
LOST = TransportFailure(Phase.MAYBE_PROCESSED, "lost")
CUT = TransportFailure(Phase.REPLY_BROKEN, "cut")


def read_all(body, patience=math.inf):
    pieces = []
    while True:
        pieces.append(body.read(patience))
        if not pieces[-1]:
            return pieces[:-1]


def test_a_client_gets_what_the_script_says():
    transport = ScriptedTransport([REFUSED, Response(503, {"Retry-After": "7"}), LOST, FOUND])
    with FlowMaestroClient(KEY, transport=transport) as client:
        reply = client.workflows.get("wf_1")
    assert (reply["data"]["id"], reply.attempts) == ("wf_1", 4)
    assert [request.method for request in transport.requests] == ["GET"] * 4
    assert 7 <= transport.clock.now < 60, "the waits took virtual time"
    assert KEY not in repr(transport.requests)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaiting_client_gets_the_same(backend):
    async def main():
        transport = AsyncScriptedTransport([REFUSED, [Quiet(3), HEAD, b'{"da', b'ta": []}']])
        async with AsyncFlowMaestroClient(KEY, transport=transport) as client:
            reply = await client.workflows.list()
        assert (reply["data"], reply.attempts) == ([], 2)
        assert len(transport.requests) == 2
        assert 3 <= transport.clock.now < 10

    anyio.run(main, backend=backend)


def test_a_body_comes_in_its_pieces_each_at_its_time():
    steps = [Quiet(0.5), HEAD, b"a", b"b", Quiet(10), b"cd", Quiet(2)]
    transport = ScriptedTransport([steps])
    body = transport.open(GET, 5)
    assert (body.status, body.headers["content-type"]) == (200, "text/event-stream")
    assert transport.now() == 0.5
    assert [body.read(5), body.read(5), body.read(5)] == [b"a", b"b", None]
    assert transport.now() == 5.5
    assert (body.read(60), transport.now()) == (b"cd", 10.5)
    assert (body.read(60), transport.now()) == (b"", 12.5)
    assert body.read(60) == b""


def test_a_late_reader_still_gets_single_pieces():
    transport = ScriptedTransport([[HEAD, b"a", Quiet(1), b"b", Quiet(1), b"c"]])
    body = transport.open(GET, 5)
    transport.sleep(100)
    assert read_all(body) == [b"a", b"b", b"c"]
    assert transport.now() == 100


def test_a_body_breaks_off_and_stays_broken():
    transport = ScriptedTransport([[HEAD, b"a", Quiet(1), CUT]])
    body = transport.open(GET, 5)
    assert body.read(5) == b"a"
    for _ in range(2):
        with pytest.raises(TransportFailure) as caught:
            body.read(5)
        assert caught.value is not CUT
        assert (caught.value.phase, caught.value.message) == (CUT.phase, "cut")
    assert transport.now() == 1
    transport = ScriptedTransport([[HEAD, b"a", CUT]])
    with pytest.raises(TransportFailure, match="cut"):
        transport.send(GET, 5)


def test_no_reply_at_all():
    transport = ScriptedTransport([Quiet(), Quiet()])
    client = FlowMaestroClient(KEY, timeout=7, max_retries=1, transport=transport)
    with client, pytest.raises(TimeoutError):
        client.workflows.get("wf_1")
    assert 14 <= transport.now() < 16


def test_the_end_of_a_script_is_no_failure_to_retry():
    client = FlowMaestroClient(KEY, transport=ScriptedTransport([LOST]))
    with client, pytest.raises(AssertionError, match=r"no response left for <Request GET .* 2$"):
        client.workflows.get("wf_1")


def test_unused_responses_are_warned_about():
    transport = ScriptedTransport([FOUND, [HEAD, b"x"], Quiet(), LOST])
    client = FlowMaestroClient(KEY, transport=transport)
    client.workflows.get("wf_1")
    with pytest.warns(UnusedScriptWarning) as caught:
        client.close()
    assert str(caught[0].message) == (
        "not requested in this test: the last 3 responses of the script"
    )
    transport.close()

    transport = ScriptedTransport([FOUND], strict=True)
    with pytest.raises(AssertionError, match="not requested in this test: the last 1 responses of"):
        transport.close()

    async def main():
        with pytest.raises(AssertionError, match="not requested in this test"):
            await AsyncScriptedTransport([FOUND], strict=True).close()
        with pytest.warns(UnusedScriptWarning):
            await AsyncScriptedTransport([FOUND]).close()

    anyio.run(main)


def test_open_bodies_are_counted():
    transport = ScriptedTransport([[HEAD, b"a"], [HEAD, b"b"], FOUND])
    first, second = transport.open(GET, 5), transport.open(GET, 5)
    assert transport.open_bodies == 2
    assert read_all(first) == [b"a"]
    assert transport.open_bodies == 2
    first.close()
    first.close()
    assert transport.open_bodies == 1
    transport.send(GET, 5)
    second.close()
    assert transport.open_bodies == 0


def test_closing_breaks_off_what_is_open():
    transport = ScriptedTransport([[HEAD, Quiet()]])
    body = transport.open(GET, 5)
    transport.close()
    assert transport.open_bodies == 0
    with pytest.raises(TransportFailure, match="closed"):
        body.read(5)
    with pytest.raises(RuntimeError, match="closed"):
        transport.send(GET, 5)


BAD = {
    "a piece before the head": ([b"x", HEAD], ValueError, "must come after a ResponseHead"),
    "two heads": ([HEAD, HEAD], ValueError, "one ResponseHead"),
    "something behind a failure": ([HEAD, CUT, b"x"], ValueError, "nothing can come after"),
    "something behind endless quiet": ([Quiet(), HEAD], ValueError, "nothing can come after"),
    "a reply that was not sent": ([HEAD, REFUSED], ValueError, "can only be REPLY_BROKEN"),
    "an empty piece": ([HEAD, b""], ValueError, "not a piece of a body"),
    "nothing": ([], ValueError, "needs a ResponseHead"),
    "a pause and nothing": ([Quiet(3)], ValueError, "needs a ResponseHead"),
    "text": ([HEAD, "x"], TypeError, "not 'x'"),
    "a class": (Quiet, TypeError, "not the class Quiet"),
    "bytes alone": (b"x", TypeError, "not b'x'"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_scripts_that_contradict_themselves(name):
    reply, kind, message = BAD[name]
    with pytest.raises(kind, match=rf"replies\[1\]: .*{message}"):
        ScriptedTransport([FOUND, reply])


def test_invalid_script_is_refused():
    with pytest.raises(TypeError, match="replies must be a list"):
        ScriptedTransport(FOUND)
    for seconds in (-1, math.nan):
        with pytest.raises(ValueError, match="seconds must be a number of at least 0"):
            Quiet(seconds)
    with pytest.raises(TypeError, match="seconds must be a number"):
        Quiet("1")


STEPS = st.lists(
    st.one_of(st.binary(min_size=1), st.floats(0, 1e6).map(Quiet)),
    max_size=12,
)


@given(STEPS)
def test_whatever_the_steps_they_are_played_as_they_are(steps):
    transport = ScriptedTransport([[HEAD, *steps]])
    pieces = read_all(transport.open(GET, 5), patience=1e9)
    assert pieces == [step for step in steps if isinstance(step, bytes)]
    total = sum(step.seconds for step in steps if isinstance(step, Quiet))
    assert transport.now() == pytest.approx(total, abs=1e-6)
