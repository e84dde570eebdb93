"""`fetch`, as browsers have it, for async clients on asyncio: in Pyodide, for example."""

from __future__ import annotations

import asyncio
import time
import weakref
from dataclasses import dataclass
from typing import Any, AsyncIterator, Callable

from bodies import PatientBody, read_response

from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)

_SETTINGS = {"redirect": "manual", "credentials": "omit", "cache": "no-store"}


@dataclass(frozen=True)
class JavaScript:
    """The functions of JavaScript that the transport needs.

    Attributes:
        fetch: `fetch`.
        new_abort_controller: `AbortController.new`.
        object_of: makes a JavaScript object of a dict; in Pyodide
            `partial(to_js, dict_converter=Object.fromEntries)`.

    """

    fetch: Callable[[str, Any], Any]
    new_abort_controller: Callable[[], Any]
    object_of: Callable[[Any], Any]


class FetchTransport:
    """Connections, TLS, and the servers that may be called (CORS) are the browser's affair."""

    known_failures = {
        **dict.fromkeys(
            (
                "a-stranger-is-refused",
                "connect-timeout",
                "a-failed-handshake",
                "refused-connection",
            ),
            "fetch gives no reason of a failure, so a POST is not retried.",
        ),
        "no-secret-is-reachable-from-a-failure": (
            "A local variable holds the header fields as they are."
        ),
        "no-redirect-is-followed": ("fetch does not show where a redirect leads: it is a failure."),
    }

    def __init__(self, js: JavaScript) -> None:
        self._js, self._closed = js, False
        self._bodies: weakref.WeakSet[PatientBody] = weakref.WeakSet()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await read_response(await self.open(request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        if self._closed:
            raise TransportClosedError
        body = await _fetch(self._js, request, timeout)
        self._bodies.add(body)
        if self._closed:  # Another task closed the transport while the request began.
            await body.close()
        return body

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        self._closed = True
        for body in list(self._bodies):
            await body.close()


async def _fetch(js: JavaScript, request: Request, timeout: float) -> PatientBody:
    """Send a request. Return its response with the body open.

    `fetch` gives no reason for a failure, so every failure before the head is *maybe processed*.
    """
    controller = js.new_abort_controller()
    fields = {"headers": js.object_of(dict(request.headers)), "body": request.body or None}
    init = {**_SETTINGS, **fields, "method": request.method, "signal": controller.signal}
    try:
        response = await asyncio.wait_for(js.fetch(request.url, js.object_of(init)), timeout)
    except Exception as error:
        controller.abort()
        late = isinstance(error, asyncio.TimeoutError)
        raise TransportFailure(Phase.MAYBE_PROCESSED, "no reply", timed_out=late) from error
    except asyncio.CancelledError:
        controller.abort()
        raise
    if response.type == "opaqueredirect":
        raise TransportFailure(Phase.REPLY_BROKEN, "a redirect, which fetch does not show")
    shown = [(name, text) for name, text in response.headers if name != "content-encoding"]

    async def release() -> None:
        controller.abort()

    return PatientBody(response.status, Headers(shown), _pieces(response.body), release)


async def _pieces(body: Any) -> AsyncIterator[bytes]:
    reader = body and body.getReader()  # The response to HEAD has no body.
    while reader and not (step := await reader.read()).done:
        yield step.value.to_bytes()
