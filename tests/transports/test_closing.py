"""A close wakes whoever is at a call or a pause, on every transport of ours."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any, Callable

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportClosedError
from flowmaestro_transports.http11.failures import too_slow
from tests.harness.runners import OURS, Runner, fails, full_listener, post

PROMPT = 30.0
"""Seconds within which somebody must have been woken; what they wait for takes longer."""


def begun(step: Callable[[], Any]) -> Future[Any]:
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(step())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def close(transport: Any) -> None:
    transport._call(transport._transport.close)


def test_close_wakes_a_connecting_call(runner: Runner) -> None:
    runner.needs("close-wakes-a-call")
    if runner.name == "aiohttp":
        pytest.skip("it connects until its time is up")
    with full_listener() as url, runner() as transport:
        call = begun(lambda: transport.send(Request("POST", url, Headers()), 60.0))
        time.sleep(0.1)  # let it wait
        close(transport)
        with pytest.raises(TransportClosedError):
            call.result(PROMPT)


@pytest.mark.parametrize("runner", OURS, ids=str, indirect=True)
def test_close_wakes_a_call_that_waits_for_a_slot(runner: Runner, scripted: Any) -> None:
    asked = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        asked.set()
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server, runner(max_connections=1) as transport:
        first = begun(lambda: transport.send(post(server), 60.0))
        assert asked.wait(PROMPT)
        others = [begun(lambda: transport.send(post(server), 60.0)) for _ in range(3)]
        time.sleep(0.1)  # let them wait
        close(transport)
        for other in others:
            with pytest.raises(TransportClosedError):
                other.result(PROMPT)
        with fails(Phase.MAYBE_PROCESSED, "closed by this side"):
            first.result(PROMPT)
    assert len(server.requests) == 1


def test_close_wakes_a_call_on_a_reused_connection(runner: Runner, scripted: Any) -> None:
    runner.needs("close-wakes-a-call")
    asked = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"ok"))
        peer.read_request()
        asked.set()
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        assert transport.send(post(server)).body == b"ok"
        call = begun(lambda: transport.send(post(server), 60.0))
        assert asked.wait(PROMPT)
        close(transport)
        with fails(Phase.MAYBE_PROCESSED, "closed by this side"):
            call.result(PROMPT)


def test_close_wakes_a_pause(runner: Runner) -> None:
    with runner() as transport:
        pause = begun(lambda: transport._call(transport._transport.sleep, 60.0))
        time.sleep(0.1)  # let it begin
        close(transport)
        with pytest.raises(TransportClosedError):
            pause.result(PROMPT)
        another = begun(lambda: transport._call(transport._transport.sleep, 60.0))
        with pytest.raises(TransportClosedError):
            another.result(PROMPT)


def test_timeout_within_body_is_not_called_truncation() -> None:
    assert str(too_slow(Phase.REPLY_BROKEN, 1.0)).endswith("the response did not end within 1 s")
