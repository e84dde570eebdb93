"""What runs in Pyodide: the fetch-shaped example on a real `fetch`, against servers outside.

Every scene is a coroutine function that asserts; `main` runs them one after another.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from functools import partial
from typing import Any, Awaitable, Callable, List, NamedTuple, Type, TypeVar

from fetch_transport import FetchTransport, JavaScript

from flowmaestro import AsyncFlowMaestroClient, ConnectionError, NotFoundError, TimeoutError
from flowmaestro_transports import Headers, Phase, Request, TransportFailure

E = TypeVar("E", bound=BaseException)

NOT_FOR_BROWSERS = {"aiohttp", "h11", "requests", "urllib3"}


class Servers(NamedTuple):
    url: str
    """A FlowMaestro's, which knows the key."""
    odd: str
    """One's that answers as the path says."""
    key: str


Scene = Callable[[FetchTransport, Servers], Awaitable[None]]
SCENES: List[Scene] = []


def scene(run: Scene) -> Scene:
    SCENES.append(run)
    return run


def fetching() -> FetchTransport:
    js = importlib.import_module("js")  # there are none of these outside
    ffi = importlib.import_module("pyodide.ffi")
    object_of = partial(ffi.to_js, dict_converter=js.Object.fromEntries)
    return FetchTransport(JavaScript(js.fetch, js.AbortController.new, object_of))


async def error_of(attempt: Awaitable[Any], kind: Type[E]) -> E:
    try:
        result = await attempt
    except kind as error:
        return error
    raise AssertionError(f"there was a result: {result}")


async def fails(attempt: Awaitable[Any], phase: Phase, *, timed_out: bool = False) -> None:
    failure = await error_of(attempt, TransportFailure)
    assert (failure.phase, failure.timed_out) == (phase, timed_out), failure


def ask(url: str, method: str = "GET", body: bytes = b"") -> Request:
    return Request(method, url, Headers({"X-API-Key": "k"}), body)


@scene
async def a_call_and_an_error(transport: FetchTransport, servers: Servers) -> None:
    client = AsyncFlowMaestroClient(api_key=servers.key, base_url=servers.url, transport=transport)
    workflow = await client.workflows.get("wf_123")
    assert workflow["data"]["id"] == "wf_123"
    error = await error_of(client.workflows.get("wf_nowhere"), NotFoundError)
    assert error.request_id


@scene
async def a_run_with_its_events(transport: FetchTransport, servers: Servers) -> None:
    client = AsyncFlowMaestroClient(api_key=servers.key, base_url=servers.url, transport=transport)
    events: List[str] = []
    run = await client.workflows.run(
        "wf_slow", inputs={"name": "Ada"}, on_event=lambda event: events.append(event["type"])
    )
    assert run["outputs"] == {"message": "Hello, Ada!"}
    assert events[0] == "connected", events
    assert events[-1] == "execution:completed", events


@scene
async def many_at_once(transport: FetchTransport, servers: Servers) -> None:
    client = AsyncFlowMaestroClient(api_key=servers.key, base_url=servers.url, transport=transport)
    inputs = [{"name": str(number)} for number in range(20)]
    runs = [run async for run in client.workflows.run_many("wf_123", inputs)]
    messages = {(run.outputs or {})["message"] for run in runs}
    assert messages == {f"Hello, {number}!" for number in range(20)}, messages


@scene
async def a_quiet_body(transport: FetchTransport, servers: Servers) -> None:
    body = await transport.open(ask(f"{servers.odd}/quiet"), 10.0)
    assert await body.read(10.0) == b"he"
    assert await body.read(0.1) is None
    rest = b""
    while piece := await body.read(10.0):
        rest += piece
    assert rest == b"llo"
    assert await body.read(0.1) == b""
    await body.close()


@scene
async def a_body_that_breaks_off(transport: FetchTransport, servers: Servers) -> None:
    await fails(transport.send(ask(f"{servers.odd}/cut"), 10.0), Phase.REPLY_BROKEN)


@scene
async def bytes_both_ways(transport: FetchTransport, servers: Servers) -> None:
    sent = bytes(range(256)) * 4096
    reply = await transport.send(ask(f"{servers.odd}/echo", "POST", sent), 10.0)
    assert reply.body == sent
    assert "content-encoding" not in reply.headers


@scene
async def time_limits(transport: FetchTransport, servers: Servers) -> None:
    begun = time.monotonic()
    head, body = ask(f"{servers.odd}/silent"), ask(f"{servers.odd}/dribble")
    await fails(transport.send(head, 0.3), Phase.MAYBE_PROCESSED, timed_out=True)
    await fails(transport.send(body, 0.3), Phase.REPLY_BROKEN, timed_out=True)
    client = AsyncFlowMaestroClient(
        api_key=servers.key,
        base_url=f"{servers.odd}/silent",
        transport=transport,
        timeout=0.3,
        max_retries=0,
    )
    await error_of(client.workflows.get("wf_123"), TimeoutError)
    assert time.monotonic() - begun < 5.0


@scene
async def nobody_there(transport: FetchTransport, servers: Servers) -> None:
    client = AsyncFlowMaestroClient(
        api_key=servers.key, base_url="http://127.0.0.1:1", transport=transport, max_retries=0
    )
    error = await error_of(client.workflows.get("wf_123"), ConnectionError)
    assert error.__cause__ is not None
    assert type(error.__cause__.__cause__).__name__ == "JsException"


@scene
async def a_cancelled_call(transport: FetchTransport, servers: Servers) -> None:
    for path in ("silent", "dribble"):
        call = asyncio.ensure_future(transport.send(ask(f"{servers.odd}/{path}"), 10.0))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait({call}, timeout=2.0)
        assert call.cancelled()
    assert (await transport.send(ask(f"{servers.odd}/echo", "POST", b"x"), 10.0)).body == b"x"


@scene
async def closing_wakes_a_reader(transport: FetchTransport, servers: Servers) -> None:
    body = await transport.open(ask(f"{servers.odd}/silent-body"), 10.0)
    reading = asyncio.ensure_future(body.read(60.0))
    await asyncio.sleep(0.05)
    await transport.close()
    await asyncio.wait({reading}, timeout=2.0)
    await fails(reading, Phase.REPLY_BROKEN)


async def main(url: str, odd: str, key: str) -> None:
    servers = Servers(url, odd, key)
    print(f"Python {sys.version.split()[0]} on {sys.platform}")
    for each in SCENES:
        transport = fetching()
        begun = time.monotonic()
        await each(transport, servers)
        await transport.close()
        print(f"  {each.__name__.replace('_', ' '):<28}{time.monotonic() - begun:6.2f} s")
    brought = NOT_FOR_BROWSERS & set(sys.modules)
    assert not brought, f"{brought} were imported"
    print(f"{len(SCENES)} passed")
