"""What goes wrong under `AnyioTransport`, and how far the request had come."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.transports.anyio_scenes import Play, failure


@pytest.mark.parametrize(
    "url",
    [
        "http:///x",
        "http://127.0.0.1:port/",
        "http://me:secret@127.0.0.1/",
    ],
)
def test_bad_urls(play: Play, url: str) -> None:
    error = play(lambda t: failure(t.send(Request("GET", url, Headers()), 5)))
    assert error.phase is Phase.NOT_SENT
    assert "secret" not in f"{error}{error.__cause__}"


@pytest.mark.parametrize("value", ["se\r\ncret", "se\u2028cret"])
def test_a_header_that_cannot_be_sent(play: Play, scripted: Any, value: str) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        request = Request("GET", server.url, Headers([("X-API-Key", value)]))
        error = await failure(transport.send(request, 5))
        assert error.phase is Phase.NOT_SENT
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert "cret" not in str(error)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
