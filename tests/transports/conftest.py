"""Fixtures for the transports' tests: the kit's scripted server, and a throw-away authority."""

from __future__ import annotations

import gc
import os
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator

import anyio
import pytest
import trustme

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro.testing.conformance import scripted_server as scripted_server_module
from flowmaestro.testing.conformance.grid import pytest_terminal_summary  # noqa: F401 - a hook
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.runners import ASYNC, RUNNERS, Runner
from tests.harness.transports.anyio_scenes import Play, Scenario


@pytest.fixture(scope="session")
def scripted() -> ModuleType:
    """The module `scripted_server`: `scripted.ScriptedServer`, `scripted.reply`, and the rest."""
    return scripted_server_module


@pytest.fixture(scope="session")
def scripted_server(scripted: ModuleType) -> type:
    """The class: `with scripted_server(handler) as server: ...server.url...`."""
    return scripted.ScriptedServer


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """For a server on loopback whose certificate is from `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """The certificate of `authority`."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(params=["asyncio", "trio"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario with an `AnyioTransport`, on either event loop."""

    def run(scenario: Scenario, **options: Any) -> Any:
        async def main() -> Any:
            transport = AnyioTransport(**options)
            try:
                return await scenario(transport)
            finally:
                await transport.close()

        return anyio.run(main, backend=request.param)

    run.backend = request.param  # type: ignore[attr-defined]
    return run


@pytest.fixture(params=RUNNERS.values(), ids=str)
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each transport of ours in turn."""
    made: Runner = request.param
    return made


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine that runs the tests says of proxies and certificates does not count."""
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "_ca_bundle")) or name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def garbage_collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collects the garbage of a test that ignores warnings of what is collected.

    Else it may be collected during a later test, which does not ignore them.
    """
    marks = request.node.iter_markers("filterwarnings")
    ignores = any("ignore::pytest.PytestUnraisableExceptionWarning" in it.args for it in marks)
    if ignores:
        request.getfixturevalue("little_to_collect")
    yield
    if ignores:
        gc.collect()


@pytest.fixture
def fake() -> FakeFlowMaestro:
    """A service that knows which streams are open."""
    return FakeFlowMaestro()


@pytest.fixture
def url(fake: FakeFlowMaestro) -> Iterator[str]:
    """Where `fake` is served."""
    with running_server(fake, speed=10) as url:
        yield url


@pytest.fixture
def client(fake: FakeFlowMaestro, url: str) -> Iterator[FlowMaestroClient]:
    """A sync client of `fake`, over sockets."""
    with FlowMaestroClient(fake.api_key, base_url=url) as client:
        yield client


@pytest.fixture(params=ASYNC, ids=str)
def run_async(request: pytest.FixtureRequest, fake: FakeFlowMaestro, url: str) -> Any:
    """Run `main(client)` on one of the awaiting stacks."""
    make, backend = request.param.make, request.param.backend

    def run(main: Any) -> Any:
        async def with_client() -> Any:
            transport = make()
            async with AsyncFlowMaestroClient(fake.api_key, base_url=url, transport=transport) as c:
                return await main(c)

        return anyio.run(with_client, backend=backend)

    vars(run).update(make=make, backend=backend)
    return run
