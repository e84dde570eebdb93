"""`demo`: a guided tour of the SDK against the fake, over the transport that the user chose."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Generator, Iterator, Tuple

import flowmaestro_transports
from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, __version__
from flowmaestro.cli import CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.cli.tour import Narrator, take_tour
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, running_server
from flowmaestro.webhooks import SIGNATURE_HEADER

_NAMES = {"sockets": "Socket", "trio": "Anyio"}
"""The beginning of a transport's class name, by its name in `--transport`, if they differ."""


def demo_command(options: argparse.Namespace) -> None:
    """Run the main tasks of a program, one after another, and print what they do.

    They run against a fake server: in memory, or on a port of this machine. Raises `CommandFailed`
    if the transport needs a package that is missing.
    """
    began = time.monotonic()
    screen = console(sys.stdout)
    about = f", over {options.transport}"
    screen.line(("FlowMaestro for Python", "bold"), f" {__version__}", (about, "dim"))
    fake = FakeFlowMaestro(options.shapes, options.events, epoch=time.time())
    about = f"({options.shapes} shapes, {options.events} events)"
    delivery = partial(last_delivery, fake)
    if options.transport == "memory":
        screen.line(f"a fake FlowMaestro in memory, on a virtual clock {about}")
        transport = MemoryTransport(fake)
        with FlowMaestroClient(fake.api_key, transport=transport) as client:
            take_tour(client, delivery, Narrator(screen, transport.now))
    else:
        with running_server(fake) as url:
            screen.line(f"a fake FlowMaestro on {url} {about}")
            with _client(options.transport, fake.api_key, url) as client:
                take_tour(client, delivery, Narrator(screen, time.monotonic))
    screen.line()
    screen.line(f"Everything worked, in {time.monotonic() - began:.1f} s.")


def last_delivery(fake: FakeFlowMaestro, webhook_id: str) -> Tuple[bytes, str]:
    """Return the body and the signature ("" if unsigned) of the last delivery to a webhook.

    Raises `CommandFailed` if there is none within 5 s.
    """
    deadline = time.monotonic() + 5
    while True:
        sent = [it.request for it in fake.deliveries if it.webhook_id == webhook_id]
        if sent:
            return sent[-1].body, sent[-1].headers.get(SIGNATURE_HEADER) or ""
        if time.monotonic() > deadline:
            raise CommandFailed("no webhook delivery was made within 5 s")
        time.sleep(0.01)


@contextmanager
def _client(transport: str, api_key: str, base_url: str) -> Generator[Any, None, None]:
    """Yield a client whose methods the demo can call without `await`.

    For a sync `transport`, it is a sync client. For an async one, it is a `_Called`, which carries
    out each call of an async client on an event loop in another thread. Raises `CommandFailed` if a
    package is missing.
    """
    try:
        name = f"{_NAMES.get(transport, transport.capitalize())}Transport"
        os.environ["no_proxy"] = "127.0.0.1"
        carrier: Any = getattr(flowmaestro_transports, name)()
        if transport in ("sockets", "requests"):
            with FlowMaestroClient(api_key, base_url=base_url, transport=carrier) as client:
                yield client
            return
        from anyio.from_thread import start_blocking_portal

        if transport == "trio":
            import trio as trio
    except ImportError as error:
        hint = f"pip install 'flowmaestro[{transport}]'"
        raise CommandFailed(f"the transport {transport} needs {error.name}: {hint}") from None
    made = AsyncFlowMaestroClient(api_key, base_url=base_url, transport=carrier)
    backend = "trio" if transport == "trio" else "asyncio"
    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(made) as it:
        yield _Called(it, portal.call)


class _Called:
    """An async client, or a part of it, that the demo calls like a sync one.

    `run` carries out a coroutine function on the event loop in another thread, and returns the
    result.
    """

    def __init__(self, target: Any, run: Callable[..., Any]) -> None:
        self._target = target
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return _Called(getattr(self._target, name), self._run)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            made = self._target(*args, **kwargs)
            return made if hasattr(made, "__anext__") else await made

        result = self._run(call)
        return self._iterate(result) if hasattr(result, "__anext__") else result

    def _iterate(self, stream: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._run(stream.__anext__)
            except StopAsyncIteration:
                return
