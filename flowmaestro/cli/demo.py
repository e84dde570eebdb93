"""`demo`: the tours, set up over the transport that was asked for."""

from __future__ import annotations

import os
import time
from typing import Awaitable, Callable

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, __version__
from flowmaestro.cli import CommandFailed, awaiting_tour, blocking_tour
from flowmaestro.cli.event_loop import run
from flowmaestro.cli.mailbox import AsyncMailbox, MemoryMailbox, receiving
from flowmaestro.cli.narrator import Narrator
from flowmaestro.cli.screen import Screen, bold, dim
from flowmaestro.testing import Events, FakeFlowMaestro, MemoryTransport, Shapes, running_server
from flowmaestro_core.options import ClientOptions
from flowmaestro_transports import AsyncTransport

BlockingTour = Callable[[FlowMaestroClient, Narrator], None]
AwaitingTour = Callable[[AsyncFlowMaestroClient, Narrator], Awaitable[None]]


def demo(transport: str, shapes: Shapes, events: Events) -> None:
    """Do the main job against an embedded server, over `transport`.

    Raises `FlowMaestroError` or `CommandFailed` when something is not as it should be.
    """
    began = time.monotonic()
    screen = Screen.standard_output()
    fake = FakeFlowMaestro(shapes, events, epoch=time.time())
    about = f"{shapes} shapes, {events} events"
    if transport == "memory":
        _open(screen, transport, f"an embedded FlowMaestro in memory, on a virtual clock ({about})")
        _tour_in_memory(screen, fake)
    else:
        _reach_loopback_directly()
        with running_server(fake) as url, receiving() as mailbox:
            _open(screen, transport, f"an embedded FlowMaestro on {url} ({about})")
            _go(
                transport,
                screen,
                ClientOptions(fake.api_key, base_url=url),
                lambda client, tell: blocking_tour.take_tour(client, mailbox, tell),
                lambda client, tell: awaiting_tour.take_tour(client, AsyncMailbox(mailbox), tell),
            )
    _close(screen, f"All as it should be, in {time.monotonic() - began:.1f} s.")


def visit(transport: str, server: ClientOptions) -> None:
    """Look around on a real server, over `transport`, and change nothing there.

    Raises `FlowMaestroError` or `CommandFailed`.
    """
    screen = Screen.standard_output()
    _open(screen, transport, server.base_url)
    _go(transport, screen, server, blocking_tour.look_around, awaiting_tour.look_around)
    _close(
        screen,
        "Read only. Left out, because it would start or change something: executing workflows and "
        "following their events, messages to agents, firing triggers, creating webhooks. The "
        "demo without --base-url and --api-key shows all that.",
    )


def _tour_in_memory(screen: Screen, fake: FakeFlowMaestro) -> None:
    transport = MemoryTransport(fake)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        tell = Narrator(screen, transport.now)
        blocking_tour.take_tour(client, MemoryMailbox(fake), tell)


def _go(
    transport: str,
    screen: Screen,
    server: ClientOptions,
    blocking: BlockingTour,
    awaiting: AwaitingTour,
) -> None:
    """Take one of the tours: the one that the transport's client is for."""
    if transport == "requests":
        from flowmaestro_transports import RequestsTransport

        chosen = RequestsTransport()
        with FlowMaestroClient(
            server.api_key, base_url=server.base_url, transport=chosen
        ) as client:
            blocking(client, Narrator(screen, chosen.now))
    else:
        backend = _backend(transport)
        run(_go_awaiting, transport, screen, server, awaiting, backend=backend)


async def _go_awaiting(
    transport: str, screen: Screen, server: ClientOptions, tour: AwaitingTour
) -> None:
    chosen = _awaiting_transport(transport)
    async with AsyncFlowMaestroClient(
        server.api_key, base_url=server.base_url, transport=chosen
    ) as client:
        await tour(client, Narrator(screen, chosen.now))


def _awaiting_transport(transport: str) -> AsyncTransport:
    if transport == "aiohttp":
        from flowmaestro_transports import AiohttpTransport

        return AiohttpTransport()
    from flowmaestro_transports import AnyioTransport

    return AnyioTransport()


def _backend(transport: str) -> str:
    """The event loop that a transport is shown on."""
    if transport != "trio":
        return "asyncio"
    try:
        import trio as trio
    except ImportError:
        raise CommandFailed(
            "the transport trio needs trio: pip install 'flowmaestro[trio]'"
        ) from None
    return "trio"


def _open(screen: Screen, transport: str, where: str) -> None:
    screen.line(bold("FlowMaestro for Python"), f" {__version__}", dim(f", over {transport}"))
    screen.line(dim(where))


def _close(screen: Screen, text: str) -> None:
    screen.line()
    screen.paragraph([], text)


def _reach_loopback_directly() -> None:
    """Keep requests to the embedded server off a proxy that the environment names."""
    for name in ("no_proxy", "NO_PROXY"):
        named = os.environ.get(name)
        os.environ[name] = f"{named},127.0.0.1" if named else "127.0.0.1"
