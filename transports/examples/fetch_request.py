"""One request by a `fetch` like that of browsers: what goes into it, and what comes out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, AsyncIterator, Callable

from patient_body import PatientBody

from flowmaestro_transports import Headers, Phase, Request, TransportFailure

_SETTINGS = {"redirect": "manual", "credentials": "omit", "cache": "no-store"}


@dataclass(frozen=True)
class JavaScript:
    """`fetch`, `AbortController.new`, and what makes a JavaScript object of a dict.

    In Pyodide: `partial(to_js, dict_converter=Object.fromEntries)`.
    """

    fetch: Callable[[str, Any], Any]
    new_abort_controller: Callable[[], Any]
    object_of: Callable[[Any], Any]


async def fetch_body(js: JavaScript, request: Request, timeout: float) -> PatientBody:
    """The reply with its body open. What goes wrong before, fetch gives no reason for."""
    controller = js.new_abort_controller()
    fields = {"headers": js.object_of(dict(request.headers)), "body": request.body or None}
    init = {**_SETTINGS, **fields, "method": request.method, "signal": controller.signal}
    try:
        reply = await asyncio.wait_for(js.fetch(request.url, js.object_of(init)), timeout)
    except Exception as error:
        controller.abort()
        late = isinstance(error, asyncio.TimeoutError)
        raise TransportFailure(Phase.MAYBE_PROCESSED, "no reply", timed_out=late) from error
    except asyncio.CancelledError:
        controller.abort()
        raise
    if reply.type == "opaqueredirect":
        raise TransportFailure(Phase.REPLY_BROKEN, "a redirect, which fetch does not show")
    shown = [(name, text) for name, text in reply.headers if name != "content-encoding"]

    async def release() -> None:
        controller.abort()

    return PatientBody(reply.status, Headers(shown), _pieces(reply.body), release)


async def _pieces(body: Any) -> AsyncIterator[bytes]:
    reader = body and body.getReader()  # there is none in the reply to HEAD
    while reader and not (step := await reader.read()).done:
        yield step.value.to_bytes()
