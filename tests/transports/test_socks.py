"""SOCKS proxies, through a session of the user's with the packages that support them."""

from __future__ import annotations

import asyncio
from typing import Any, Iterator, List, Tuple

import aiohttp
import pytest
import requests

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro_transports import AiohttpTransport, RequestsTransport
from tests.harness.transports.socks_proxy import socks_proxy

Scene = Tuple[FakeFlowMaestro, str, str, List[Tuple[str, int]]]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A fake, the URL that it serves, the address of a proxy, and what that was asked for."""
    fake = FakeFlowMaestro()
    with running_server(fake) as url, socks_proxy() as (proxy, asked):
        yield fake, url.replace("127.0.0.1", "localhost"), proxy, asked


def test_a_session_of_requests_with_pysocks(scene: Scene) -> None:
    pytest.importorskip("socks", reason="PySocks is NOT INSTALLED")
    fake, url, proxy, asked = scene
    with requests.Session() as session:
        # With socks5h, the proxy resolves the name.
        session.proxies = {"http": f"socks5h://{proxy}", "https": f"socks5h://{proxy}"}
        session.trust_env = False
        transport = RequestsTransport(session)
        with FlowMaestroClient(fake.api_key, base_url=url, transport=transport) as client:
            run = client.workflows.run("wf_123", {"name": "Ada"})
    assert run.outputs == {"message": "Hello, Ada!"}
    assert asked
    assert set(asked) == {("localhost", int(url.rpartition(":")[2]))}


def test_a_session_of_aiohttp_with_aiohttp_socks(scene: Scene) -> None:
    aiohttp_socks: Any = pytest.importorskip("aiohttp_socks", reason="it is NOT INSTALLED")
    fake, url, proxy, asked = scene

    async def main() -> Any:
        connector = aiohttp_socks.ProxyConnector.from_url(f"socks5://{proxy}", rdns=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            transport = AiohttpTransport(session)
            async with AsyncFlowMaestroClient(
                fake.api_key, base_url=url, transport=transport
            ) as client:
                return await client.workflows.run("wf_123", {"name": "Ada"})

    assert asyncio.run(main()).outputs == {"message": "Hello, Ada!"}
    assert asked
    assert set(asked) == {("localhost", int(url.rpartition(":")[2]))}
