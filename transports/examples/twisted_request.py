"""One request by Twisted's HTTP client, within a time, and what its errors say of it."""

from __future__ import annotations

import io
from typing import Any

from twisted.web import client
from twisted.web.http_headers import Headers

from flowmaestro_transports import Phase, Request, TransportFailure

_SENT = (client.RequestGenerationFailed, client.RequestTransmissionFailed, client.ResponseFailed)


async def head_of_reply(agent: client.Agent, request: Request, timeout: float, reactor: Any) -> Any:
    """The `IResponse`. To Twisted, what breaks off in a handshake has been sent."""
    end = reactor.seconds() + timeout
    fields = {**request.headers, "accept-encoding": "identity"}
    headers = Headers({name: [text] for name, text in fields.items()})
    producer: Any = client.FileBodyProducer
    body = producer(io.BytesIO(request.body)) if request.body else None
    try:
        asked = agent.request(request.method.encode(), request.url.encode(), headers, body)
        return await asked.addTimeout(timeout, reactor)
    except Exception as error:
        phase = Phase.MAYBE_PROCESSED if isinstance(error, _SENT) else Phase.NOT_SENT
        late = reactor.seconds() >= end
        raise TransportFailure(phase, "no reply", timed_out=late) from error
