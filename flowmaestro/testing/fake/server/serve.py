"""The fake over real sockets: HTTP/1.1 with keep-alive, chunked event streams, real webhooks.

One task advances the model's time between requests: it sleeps until the model has something to do,
and sends the webhook deliveries that are due. Connections (`connection.py`) pass requests to the
model.

A server on a loopback address accepts only its own name and loopback names in `Host`. Otherwise a
web page whose name resolves to this machine (DNS rebinding) could send requests to it from the
user's browser.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import time
from contextlib import contextmanager
from functools import partial
from typing import Callable, Collection, Generator, Optional
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.from_thread import start_blocking_portal

from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.replies import FakeReply, PolledBody
from flowmaestro.testing.fake.model.webhooks import RECEIVER_SECONDS, Delivery
from flowmaestro.testing.fake.server.connection import ServerConnection, alarm, until_ready
from flowmaestro.testing.fake.server.exchanges import InspectedRequest
from flowmaestro.testing.fake.server.inspector import Inspector, json_reply
from flowmaestro.testing.fake.server.sockets import Listener
from flowmaestro_core.http.messages import Request, TransportFailure
from flowmaestro_transports.contract import AsyncTransport

SENT_AGAIN_SECONDS = 60.0
"""When a user sends a request again from the inspector and the response is an event stream, the
stream is read for at most so many seconds: as long as a person may watch it, and two keepalives."""

LONGEST_START = 10.0
"""If the time of a fake is behind the wall clock by fewer seconds than this when its server starts,
the fake is meant to show the present time. Its time is then set to the wall clock, unless `speed`
is not 1."""

_LOG = logging.getLogger(__name__)
_DOCUMENTATION_HOST = re.compile(r"(.+\.)?example(\.(com|net|org))?", re.IGNORECASE)


async def serve(
    fake: FakeFlowMaestro,
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
    *,
    allow_webhooks_to: Optional[Collection[str]] = None,
    inspector: Optional[Inspector] = None,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `fake` until cancelled, on asyncio or trio.

    `await task_group.start(serve, fake)` returns the server's URL once it listens.
    On a loopback `host`, a request is answered with 400 if its `Host` is neither `host` nor a
    loopback name. Raises `OSError` if it cannot listen on the address.

    Args:
        fake: the fake to serve.
        host: the name or address to listen on.
        port: the port to listen on; 0 for any free port.
        speed: seconds of the model for each real second, above 0.
        allow_webhooks_to: hosts, as in URLs, to which webhooks are sent in addition to loopback;
            every other delivery fails, with a warning in the log. By default, webhooks are sent to
            any host. In both cases, nothing is sent to hosts reserved for documentation (RFC 2606),
            which count as having accepted.
        inspector: gets everything that happens; on a loopback `host`, it also serves its page.

    Raises:
        TypeError: `allow_webhooks_to` is a text, or `speed` is not a number.
        ValueError: `speed` is not above 0, or not finite.

    """
    _check_speed(speed)
    if isinstance(allow_webhooks_to, str):
        raise TypeError(f"allow_webhooks_to must be a list of hosts, not {allow_webhooks_to!r}")
    from flowmaestro_transports.anyio.transport import AnyioTransport

    listener, outside = Listener(host, port), AnyioTransport()
    # A proxy must not get requests that stay on this machine.
    local = AnyioTransport(trust_env=False)
    try:
        async with anyio.create_task_group() as tasks:
            server = _Server(fake, tasks, outside, local, speed)
            server.only_name = host.lower() if is_loopback(listener.address) else None
            if inspector is not None:
                server.inspector = inspector
                inspector.attach(
                    has_page=is_loopback(host),
                    send=partial(server.send_again, inspector),
                    model_time=lambda: fake.unix_time(server.now()),
                    changed=server.wake,
                    work=server.work,
                )
            if allow_webhooks_to is not None:
                server.subscribers = {name.lower() for name in allow_webhooks_to}
            tasks.start_soon(server.keep_time)
            shown = f"[{host}]" if ":" in host else host
            task_status.started(f"http://{shown}:{listener.port}")
            await server.accept(listener)
    finally:
        listener.close()
        with anyio.CancelScope(shield=True):
            await outside.close()
            await local.close()


@contextmanager
def running_server(
    fake: FakeFlowMaestro, host: str = "127.0.0.1", port: int = 0, speed: float = 1.0
) -> Generator[str, None, None]:
    """Serve `fake` in another thread during a `with` block, which gets the URL.

    Port 0 is any free port. The model's time advances by `speed` seconds in each real second, so
    that a test need not wait for a slow workflow. Raises `OSError` if it cannot listen on the
    address, and `TypeError` or `ValueError` unless `speed` is a finite number above 0. If the
    server has failed meanwhile, its error is raised at the end of the block.
    """
    with start_blocking_portal() as portal:
        server, url = portal.start_task(serve, fake, host, port, speed)
        try:
            yield url
        finally:
            if not server.cancel():
                server.result()


def _check_speed(speed: object) -> None:
    """Raise `TypeError` or `ValueError` unless `speed` is a finite number above 0."""
    if isinstance(speed, bool) or not isinstance(speed, (int, float)):
        raise TypeError(f"speed must be a number, not {speed!r}")
    if not 0 < speed < math.inf:
        raise ValueError(f"speed must be a finite number above 0, not {speed!r}")


class _Server:
    """Drives one fake in real time, or `speed` times as fast."""

    def __init__(
        self,
        fake: FakeFlowMaestro,
        tasks: TaskGroup,
        outside: AsyncTransport,
        local: AsyncTransport,
        speed: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fake = fake
        self._tasks = tasks
        self._outside = outside
        self._local = local
        self._speed = speed
        self._clock = clock
        self._plans_changed = anyio.Event()
        # One at a time: threads would make each other and the event loop wait.
        self._workers = anyio.CapacityLimiter(1)
        self.only_name: Optional[str] = None
        """The only accepted `Host`, beside loopback names; `None` if every host is accepted."""
        self.subscribers: Optional[Collection[str]] = None
        self.inspector: Optional[Inspector] = None
        self._last = clock()
        self._ahead = fake.now - self._last * speed
        # A fake that was made a moment ago with this clock as its epoch keeps to it.
        behind = self._last - fake.unix_time(fake.now)
        if speed == 1.0 and 0.0 < behind < LONGEST_START:
            self._ahead += behind

    def now(self) -> float:
        """Return the time on the model's clock, in seconds.

        It follows the wall clock, because clients compare the model's timestamps with theirs. If
        the wall clock is set back, the model's time continues from its last value.
        """
        wall = self._clock()
        if wall < self._last:
            self._ahead += (self._last - wall) * self._speed
        self._last = wall
        return self._ahead + wall * self._speed

    async def keep_time(self) -> None:
        """Advance the model's time with the wall clock, and send deliveries that are due, for ever.

        Runs in a task of its own until that task is cancelled.
        """
        while True:
            self._plans_changed = anyio.Event()
            for delivery in self._fake.due(self.now()):
                self._tasks.start_soon(self._deliver, delivery)
            upcoming = self._fake.next_time()
            idle = math.inf if upcoming is None else max(0.0, upcoming - self.now()) / self._speed
            with anyio.move_on_after(idle):
                await self._plans_changed.wait()

    async def accept(self, listener: Listener) -> None:
        """Accept connections until cancelled, and serve each in a task of its own."""
        while True:
            for peer in await listener.accept():
                self._tasks.start_soon(
                    ServerConnection(peer, self._handle, self.now, self.inspector).run
                )

    def wake(self) -> None:
        """Make `keep_time` compute again when the model must act next."""
        self._plans_changed.set()

    def work(self, job: Callable[[], FakeReply], reply: FakeReply) -> None:
        """Start a task that calls `job` in another thread, and completes `reply` with its result.

        Other clients are answered meanwhile.
        """
        self._tasks.start_soon(self._work, job, reply)

    async def _work(self, job: Callable[[], FakeReply], reply: FakeReply) -> None:
        try:
            done = await anyio.to_thread.run_sync(job, limiter=self._workers)
        except Exception as error:  # An error of one page must not end the server.
            _LOG.exception("the inspector could not show something")
            done = json_reply(500, {"error": f"{type(error).__name__}: {error}"})
        reply.complete(done.status, done.headers, body=done.body)

    def send_again(self, inspector: Inspector, exchange: InspectedRequest) -> None:
        """Start a task that sends `exchange.request` to the fake, and reports to the inspector."""
        self._tasks.start_soon(self._send_again, inspector, exchange)

    async def _send_again(self, inspector: Inspector, exchange: InspectedRequest) -> None:
        inspector.about_to_handle(exchange)
        reply = self._fake.handle(exchange.request, self.now())
        self.wake()
        await until_ready(reply)
        inspector.responded(exchange, reply)
        if reply.stream is None:
            return
        how = "left"
        try:
            with anyio.move_on_after(SENT_AGAIN_SECONDS):
                how = await self._follow(exchange, inspector, reply.stream)
        finally:
            reply.stream.close()
            inspector.stream_ended(exchange, how)

    async def _follow(
        self, exchange: InspectedRequest, inspector: Inspector, body: PolledBody
    ) -> str:
        """Read an event stream to its end, and pass its data to the inspector.

        The request of the stream is one that a user sent again. Return `complete`, or `cut` if a
        fault ended the stream.
        """
        while True:
            woken = alarm(body)
            try:
                data = body.poll(self.now())
            except TransportFailure:
                return "cut"
            if data is None:
                await woken.wait()
            elif data:
                inspector.streamed(exchange, data)
            else:
                return "complete"

    def _handle(self, request: Request) -> FakeReply:
        # A request in HTTP/1.0 may have none; browsers do not use that version.
        asked = request.headers.get("host")
        if self.only_name is not None and asked is not None:
            name = _hostname(asked)
            if name != self.only_name and not is_loopback(name):
                why = "this server answers to loopback names only, such as localhost"
                error = {"code": "validation_error", "message": f"Host is {asked!r}: {why}"}
                return json_reply(400, {"success": False, "error": error})
        own = None if self.inspector is None else self.inspector.answer(request)
        if own is not None:
            return own
        reply = self._fake.handle(request, self.now())
        self._plans_changed.set()
        return reply

    async def _deliver(self, delivery: Delivery) -> None:
        status = await self._post(delivery.request)
        self._fake.delivered(delivery, status, self.now())
        if self.inspector is not None:
            self.inspector.delivered(delivery)
        self._plans_changed.set()

    async def _post(self, request: Request) -> Optional[int]:
        host = _hostname(urlsplit(request.url).netloc)
        if _DOCUMENTATION_HOST.fullmatch(host):
            return 200
        if self.subscribers is not None and not (is_loopback(host) or host in self.subscribers):
            _LOG.warning("webhook not sent to %s: the host is neither loopback nor allowed", host)
            return None
        try:
            transport = self._local if is_loopback(host) else self._outside
            response = await transport.send(request, RECEIVER_SECONDS)
        except TransportFailure:
            return None
        return response.status


def _hostname(authority: str) -> str:
    """Return the name or address in `host:port`, in lower case; `""` if there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost`, below it (RFC 6761, 6.3), or a loopback address."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
