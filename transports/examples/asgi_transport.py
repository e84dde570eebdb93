"""An ASGI application in the same process as the client: Starlette or FastAPI under test.

No socket and no thread: the application is called with a scope, as a server would call it. On
asyncio, since a task runs the application beside the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, Generator, Optional
from urllib.parse import unquote, urlsplit

import anyio

from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)

Message = Dict[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class AsgiBody:
    """The open body of a response: one task runs the application, and fills `_pieces`."""

    def __init__(self, request: Request) -> None:
        self.status = 0
        self.headers = Headers()
        self._request = request
        self._pieces: Deque[bytes] = deque()
        self._news = anyio.Event()
        self._failure: Optional[TransportFailure] = None
        self._closed = self._ended = self._asked = False
        self.gone = anyio.Event()
        """Set once nobody reads the body any more: the application then gets a disconnect."""

    async def receive(self) -> Message:
        """Give the request to the application, then wait until the client is gone."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the response from the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            fields = message.get("headers", [])
            self.headers = Headers([(n.decode("latin-1"), v.decode("latin-1")) for n, v in fields])
        elif message["type"] == "http.response.body":
            if message.get("body") and self._request.method != "HEAD":
                self._pieces.append(message["body"])
            if not message.get("more_body", False):
                self._ended = True
        self.wake()

    def fail(self, message: str) -> None:
        """Record that the application has failed, or has ended without a whole response."""
        if not self._ended and self._failure is None:
            phase = Phase.REPLY_BROKEN if self.status else Phase.MAYBE_PROCESSED
            self._failure = TransportFailure(phase, message)
        self.wake()

    def wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def head(self) -> None:
        """Wait for the head. Raise the failure if there is none."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._news.wait()

    async def read(self, patience: float) -> Optional[bytes]:
        with anyio.move_on_after(max(patience, 0.0)):
            while not (self._pieces or self._ended or self._closed or self._failure):
                await self._news.wait()
        if self._closed and not self._ended:
            raise TransportFailure(Phase.REPLY_BROKEN, "the body was closed before its end")
        if self._pieces:
            return self._pieces.popleft()
        if self._failure is not None:
            raise self._failure
        return b"" if self._ended else None

    async def close(self) -> None:
        self._closed = True
        self.gone.set()
        self.wake()


class AsgiTransport:
    """Calls an ASGI application, in a task for each request.

    What the application raises is a lost response, as over a network: look at its log.
    """

    def __init__(self, app: App) -> None:
        self._app, self._closed = app, False
        self._running: Dict[AsgiBody, asyncio.Task[None]] = {}

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        body = await self.open(request, timeout)
        content = bytearray()
        try:
            while piece := await body.read(end - self.now()):
                content += piece
        finally:
            await body.close()
        if piece is None:
            raise TransportFailure(Phase.REPLY_BROKEN, "no end in time", timed_out=True)
        return Response(body.status, body.headers, bytes(content))

    async def open(self, request: Request, timeout: float) -> AsgiBody:
        if self._closed:
            raise TransportClosedError
        body = AsgiBody(request)
        self._running[body] = asyncio.ensure_future(self._run(body, request))
        try:
            with anyio.fail_after(timeout):
                await body.head()
        except TimeoutError:
            late = TransportFailure(Phase.MAYBE_PROCESSED, "no response in time", timed_out=True)
        except BaseException:
            await body.close()
            raise
        else:
            return body
        await body.close()
        raise late

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        self._closed = True
        for body, running in list(self._running.items()):
            body.fail("the transport was closed")
            await body.close()
            running.cancel()
            await asyncio.wait({running})

    async def _run(self, body: AsgiBody, request: Request) -> None:
        url = urlsplit(request.url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": unquote(url.path),
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [(b"host", url.netloc.encode())]
            + [(n.lower().encode(), v.encode()) for n, v in request.headers.pairs],
            "server": (url.hostname, url.port or 80),
            "client": ("127.0.0.1", 0),
        }
        said = "the application ended without a whole response"
        try:
            await self._app(scope, body.receive, body.send)
        except Exception as error:
            said = f"the application raised {type(error).__name__}"
        finally:
            del self._running[body]
            body.fail(said)


@contextlib.contextmanager
def serve_app(respond: Callable[[Request], Any], place: Any) -> Generator[str, None, None]:
    """Serve a site of the conformance kit as an ASGI application: its `serve_site`.

    `place.app` is the application for the transports that the kit makes meanwhile.
    """

    async def app(scope: Message, receive: Any, send: Any) -> None:
        asked = await receive()
        path, query = scope["raw_path"].decode(), scope["query_string"].decode()
        url = "http://app.test" + path + ("?" + query if query else "")
        fields = [(n.decode(), v.decode()) for n, v in scope["headers"]]
        given = respond(Request(scope["method"], url, Headers(fields), asked["body"]))
        if isinstance(given, Response):
            await send(_start(given.status, given.headers))
            bodiless = scope["method"] == "HEAD" or given.status in (204, 304)
            body = b"" if bodiless else given.body
            await send({"type": "http.response.body", "body": body})
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_note_disconnect, receive, given, tasks.cancel_scope)
            await _play(given, send)
            tasks.cancel_scope.cancel()

    place.app = app
    yield "http://app.test"


def _start(status: int, headers: Headers) -> Message:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.pairs]
    return {"type": "http.response.start", "status": status, "headers": fields}


async def _note_disconnect(receive: Any, live: Any, playing: anyio.CancelScope) -> None:
    await receive()
    live.hung_up.set()
    playing.cancel()


async def _play(live: Any, send: Any) -> None:
    """Send each piece that the check passes to `live`, until the check ends the body."""
    while not live.begun.is_set():  # noqa: ASYNC110 - any thread may set it
        await anyio.sleep(0.005)
    await send(_start(200, Headers()))
    piece = b"-"
    while piece:
        try:
            piece = live.pieces.get_nowait()
        except queue.Empty:
            await anyio.sleep(0.005)
            continue
        await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
