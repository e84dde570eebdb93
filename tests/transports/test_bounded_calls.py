"""How many calls a transport has in flight at once: by default, and with a session of the user."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict

import aiohttp
import pytest
import requests
from requests.adapters import HTTPAdapter

from flowmaestro_core.http.messages import TransportClosedError
from flowmaestro_transports import AiohttpTransport, RequestsTransport
from tests.harness.runners import Runner, get

CROWD = 150


class Door:
    """A server's handler that answers once `enough` requests wait, and counts the most that did."""

    def __init__(self, scripted: Any, enough: int) -> None:
        self._reply, self._enough = scripted.reply(b"ok"), enough
        self._lock = threading.Lock()
        self._full, self._beyond = threading.Event(), threading.Event()
        self._waiting = 0
        self.most = 0

    def __call__(self, peer: Any) -> None:
        while peer.read_request() is not None:
            with self._lock:
                self._waiting += 1
                self.most = max(self.most, self._waiting)
                if self._waiting > self._enough:
                    self._beyond.set()
                if self._waiting == self._enough:
                    self._full.set()
            self._full.wait(60)
            # The time in which a transport without a bound sends one more.
            self._beyond.wait(0.25)
            with self._lock:
                self._waiting -= 1
            peer.send(self._reply)


def test_a_transport_has_100_calls_in_flight_by_default(runner: Runner, scripted: Any) -> None:
    door = Door(scripted, 100)
    with (
        scripted.ScriptedServer(door) as server,
        runner() as transport,
        ThreadPoolExecutor(CROWD) as threads,
    ):
        replies = list(threads.map(lambda _: transport.send(get(server), 120.0), range(CROWD)))
    assert [reply.body for reply in replies] == [b"ok"] * CROWD
    assert door.most == 100


def test_a_session_of_requests_keeps_its_own_bound(scripted: Any) -> None:
    door = Door(scripted, CROWD)
    with (
        requests.Session() as session,
        scripted.ScriptedServer(door) as server,
        ThreadPoolExecutor(CROWD) as threads,
    ):
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=CROWD))
        transport = RequestsTransport(session)
        list(threads.map(lambda _: transport.send(get(server), 120.0), range(CROWD)))
    assert door.most == CROWD


def test_a_session_of_aiohttp_keeps_its_own_bound(scripted: Any) -> None:
    door = Door(scripted, CROWD)

    async def main(url: Any) -> None:
        connector = aiohttp.TCPConnector(limit=CROWD)
        async with aiohttp.ClientSession(connector=connector) as session:
            transport = AiohttpTransport(session)
            await asyncio.gather(*(transport.send(get(url), 120.0) for _ in range(CROWD)))

    with scripted.ScriptedServer(door) as server:
        asyncio.run(main(server))
    assert door.most == CROWD


def test_close_wakes_a_call_that_waits_for_another(runner: Runner, scripted: Any) -> None:
    """Each of the waiting calls wakes, and says that nothing was sent."""
    asked, hold = threading.Event(), threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        asked.set()
        hold.wait(60)

    with (
        scripted.ScriptedServer(handler) as server,
        runner(max_connections=1) as transport,
        ThreadPoolExecutor(4) as threads,
    ):
        first = threads.submit(transport.send, get(server), 60.0)
        assert asked.wait(60)
        waiting = [threads.submit(transport.send, get(server), 60.0) for _ in range(3)]
        transport.sleep(0.05)  # Most wait by then; one that does not is refused at its beginning.
        transport.close()
        for call in waiting:
            with pytest.raises(TransportClosedError):
                call.result(60)
        hold.set()
        assert first.exception(60) is not None
        assert len(server.requests) == 1


def test_call_cancelled_as_its_slot_comes_passes_the_slot_on(scripted: Any) -> None:
    """With the semaphore of Python 3.9, every later call would wait for ever."""
    asked, go_on = threading.Event(), threading.Event()

    def handler(peer: Any) -> None:
        while peer.read_request() is not None:
            asked.set()
            go_on.wait(60)
            peer.send(scripted.reply(b"ok"))

    async def main(server: Any) -> None:
        transport = AiohttpTransport(max_connections=1)

        async def call_and_cancel() -> None:
            await transport.send(get(server), 60.0)
            waiting.cancel()  # Its slot was released in this step, so it has not run since.

        first = asyncio.ensure_future(call_and_cancel())
        await asyncio.get_running_loop().run_in_executor(None, asked.wait, 60)
        waiting = asyncio.ensure_future(transport.send(get(server), 60.0))
        await asyncio.sleep(0)  # It runs up to its wait for the slot.
        go_on.set()
        await first
        reply = await asyncio.wait_for(transport.send(get(server), 60.0), 60.0)
        assert reply.body == b"ok"
        assert waiting.cancelled()
        await transport.close()

    with scripted.ScriptedServer(handler) as server:
        asyncio.run(main(server))
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", [RequestsTransport, AiohttpTransport])
def test_max_connections_must_be_a_count(kind: Callable[..., Any]) -> None:
    refused: Dict[Any, type] = {0: ValueError, "9": TypeError, True: TypeError}
    for value, error in refused.items():
        with pytest.raises(error, match="max_connections"):
            kind(max_connections=value)
