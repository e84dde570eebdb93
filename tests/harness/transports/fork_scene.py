"""A process that forks with a transport in its hands: `python fork_scene.py RUNNER LOOPS URL...`.

A process of its own, because one that has threads, as that of the tests, had better not fork. It
ends with status 0 if parent and child both got on undisturbed.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import traceback
from functools import partial
from typing import Any, Callable, Dict, List

import anyio
import requests

from flowmaestro_core.http.messages import Headers, Request, TransportFailure
from flowmaestro_transports import AnyioTransport, RequestsTransport, SocketTransport

SYNC_TRANSPORTS: Dict[str, Callable[[], Any]] = {
    "sockets": SocketTransport,
    "requests": RequestsTransport,
    "session": lambda: RequestsTransport(requests.Session()),
}


class Blocking:
    """A sync transport as an awaiting one."""

    def __init__(self, runner: str) -> None:
        self._transport: Any = SYNC_TRANSPORTS[runner]()

    async def send(self, request: Request, timeout: float) -> Any:
        return self._transport.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> Any:
        return BlockingBody(self._transport.open(request, timeout))

    async def close(self) -> None:
        self._transport.close()


class BlockingBody:
    def __init__(self, body: Any) -> None:
        self._body = body

    async def read(self, patience: float) -> Any:
        return self._body.read(patience)

    async def close(self) -> None:
        self._body.close()


Get = Callable[[str], Request]


async def family(runner: str, use: str, get: Get) -> None:
    """Forks while an event loop runs; the child has another one."""
    backend = "trio" if runner == "trio" else "asyncio"
    held = await begin(runner, get)
    fork(partial(anyio.run, CHILDREN[use], held, get, backend=backend), held)
    await end(held, get)


def family_of_one_loop(runner: str, use: str, get: Get) -> None:
    """Forks between two runs of an event loop, which the child runs, too."""
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(begin(runner, get))
    fork(lambda: loop.run_until_complete(CHILDREN[use](held, get)), held)
    loop.run_until_complete(end(held, get))
    loop.close()


async def begin(runner: str, get: Get) -> List[Any]:
    transport = Blocking(runner) if runner in SYNC_TRANSPORTS else AnyioTransport()
    body = await transport.open(get("/stream"), 5)
    assert await body.read(5) == b"one"
    assert (await transport.send(get("/parent"), 5)).body == b"connection 1"
    return [transport, body]


async def end(held: List[Any], get: Get) -> None:
    transport, body = held
    assert (await transport.send(get("/go"), 5)).body == b"connection 1"
    assert await body.read(5) == b"two"
    await body.close()
    await transport.close()


def fork(live: Callable[[], object], held: List[Any]) -> None:
    """Has a child run `live` where no event loop runs, and waits until it has ended."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    complaints: List[str] = []

    def run() -> None:
        try:
            live()
            held.clear()
            gc.collect()
        except BaseException:
            complaints.append(traceback.format_exc())

    # A context of its own: without the GIL, a thread starts with a copy of its creator's, in which
    # anyio finds the event loop of the parent.
    thread = threading.Thread(target=contextvars.Context().run, args=(run,))
    thread.start()
    thread.join()
    os.write(2, "".join(complaints).encode())
    os._exit(bool(complaints))


async def use_all(held: List[Any], get: Get) -> None:
    transport, body = held
    for _ in range(2):
        assert (await transport.send(get("/child"), 5)).body == b"connection 2"
    try:
        stolen = await body.read(1)
    except TransportFailure:
        pass
    else:
        raise AssertionError(f"the child has read {stolen!r}")
    await transport.send(get("/go"), 5)  # the server now speaks to the parent
    await anyio.sleep(0.1)
    own = await transport.open(get("/stream"), 5)
    assert (await own.read(5) or b"").startswith(b"one")
    await body.close()
    await own.close()
    await transport.close()


async def close_all(held: List[Any], get: Get) -> None:
    transport, body = held
    await body.close()
    await transport.close()


async def drop_all(held: List[Any], get: Get) -> None:
    held.clear()
    gc.collect()


CHILDREN = {"use": use_all, "close": close_all, "drop": drop_all}


def main(runner: str, loops: str, *urls: str) -> None:
    """Each use that a child may make has a server of its own."""
    for use, url in zip(CHILDREN, urls):

        def get(path: str, url: str = url) -> Request:
            return Request("GET", url + path, Headers())

        if loops == "one":
            family_of_one_loop(runner, use, get)
        else:
            anyio.run(family, runner, use, get, backend="trio" if runner == "trio" else "asyncio")


if __name__ == "__main__":
    main(*sys.argv[1:])
