from __future__ import annotations

import asyncio

import aiohttp
import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports import AiohttpTransport
from flowmaestro_transports.aiohttp.exchange import by_session, own_exchange, past_session


def test_a_session_of_ours_is_passed_by() -> None:
    assert own_exchange() is past_session


@pytest.mark.parametrize(
    ("part", "name"), [(aiohttp.ClientRequest, "send"), (aiohttp.ClientResponse, "start")]
)
def test_it_is_asked_where_aiohttp_lacks_a_part(
    part: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(part, name)
    assert own_exchange() is by_session


def test_it_is_asked_where_a_part_takes_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_headers(self: object, method: str, url: str, *, data: object = None) -> None: ...

    monkeypatch.setattr(aiohttp.ClientRequest, "__init__", without_headers)
    assert own_exchange() is by_session


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "http://user:password@127.0.0.1/", "a"])
def test_it_goes_only_where_http_goes_and_with_no_credentials_of_a_url(url: str) -> None:
    async def refused() -> None:
        transport = AiohttpTransport()
        try:
            with pytest.raises(TransportFailure, match="URL") as caught:
                await transport.send(Request("GET", url, Headers()), 5.0)
        finally:
            await transport.close()
        assert caught.value.phase is Phase.NOT_SENT
        assert "password" not in str(caught.value)

    asyncio.run(refused())
