"""Clients that an application makes for itself reach a fake that is installed."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro_transports import Response
from flowmaestro_transports.override import current_override
from tests.harness.testing.side_by_side import BACKENDS


def an_application(**options):
    """Code that knows nothing of any test."""
    with FlowMaestroClient(**options) as client:
        return client.workflows.run("wf_123", {"name": "Ada"})["outputs"]


async def an_awaiting_application(**options):
    async with AsyncFlowMaestroClient(**options) as client:
        return (await client.workflows.run("wf_123", {"name": "Ada"}))["outputs"]


GREETING = {"message": "Hello, Ada!"}
KEYS = pytest.mark.parametrize(
    "options",
    [{}, {"api_key": "fm_live_mine"}, {"api_key": "fm_test_mine"}, {"base_url": "http://host:1"}],
    ids=["no-key", "any-key", "a-test-key", "any-host"],
)


@KEYS
def test_a_sync_application_uses_the_installed_fake(options):
    with FakeFlowMaestro().installed() as fake:
        assert an_application(**options) == GREETING
    fake.assert_executed("wf_123", inputs={"name": "Ada"}, times=1)


@KEYS
@BACKENDS
def test_an_async_application_uses_the_installed_fake(backend, options):
    with FakeFlowMaestro().installed() as fake:
        assert anyio.run(lambda: an_awaiting_application(**options), backend=backend) == GREETING
    fake.assert_executed("wf_123", inputs={"name": "Ada"}, times=1)


def test_a_fake_installed_by_another_thread_is_used(fake):
    opened = fake.installed()
    thread = threading.Thread(target=opened.__enter__)
    thread.start()
    thread.join()
    try:
        assert an_application() == GREETING
    finally:
        opened.__exit__(None, None, None)
    assert current_override() is None


def test_a_client_that_would_send_past_the_fake_is_refused():
    before, sent = FlowMaestroClient("fm_live_mine"), []
    own = FlowMaestroClient("fm_live_mine", transport=lambda request: sent.append(request))
    with FakeFlowMaestro().installed():
        for client in (before, own, own.with_options(timeout=1)):
            with pytest.raises(RuntimeError, match=r"nothing was sent: this client of api\.") as it:
                client.workflows.list()
            assert "is installed. The client was made before that" in str(it.value)
            with pytest.raises(RuntimeError, match="allow_network=True"):
                list(client.executions.stream("exec_1"))
    assert sent == []


def test_an_async_client_that_would_send_past_the_fake_is_refused():
    before = AsyncFlowMaestroClient("fm_live_mine")

    async def main():
        with pytest.raises(RuntimeError, match="nothing was sent"):
            await before.workflows.list()

    with FakeFlowMaestro().installed():
        asyncio.run(main())


def test_the_network_can_be_allowed_and_loopback_is():
    answer = Response(200, {}, b'{"data": []}')
    far = FlowMaestroClient("fm_live_mine", transport=lambda request: answer)
    near = FlowMaestroClient(
        "fm_live_mine", base_url="http://127.0.0.1:1", transport=lambda request: answer
    )
    with FakeFlowMaestro().installed():
        assert near.workflows.list()["data"] == []
    with FakeFlowMaestro().installed(allow_network=True):
        assert far.workflows.list()["data"] == []


def test_two_threads_do_not_install_different_fakes_at_once():
    def install():
        with FakeFlowMaestro().installed():
            pass

    with FakeFlowMaestro().installed(), ThreadPoolExecutor(1) as pool:
        error = pool.submit(install).exception()
    assert "is installed by the thread 'MainThread'" in str(error)
    install()


def test_outside_of_the_block_nothing_is_changed(fake):
    before = FlowMaestroClient("fm_live_mine")
    with fake.installed():
        inside = FlowMaestroClient()
        assert type(before._executor.transport).__name__ == "SocketTransport"
    with pytest.raises(ValueError, match="no API key"):
        FlowMaestroClient()
    after = FlowMaestroClient("fm_live_mine")
    assert type(after._executor.transport).__name__ == "SocketTransport"
    assert inside.workflows.run("wf_123")["status"] == "completed", "it keeps to its fake"


def test_a_transport_of_its_own_is_used_and_needs_a_key():
    other = FakeFlowMaestro()
    with FakeFlowMaestro().installed() as fake:
        client = FlowMaestroClient(other.api_key, transport=MemoryTransport(other))
        client.workflows.list()
        with pytest.raises(ValueError, match="no API key"):
            FlowMaestroClient(transport=MemoryTransport(other))
    fake.assert_not_called()
    other.assert_called("GET", "/workflows")


def test_last_installed_fake_serves():
    first, second = FakeFlowMaestro(), FakeFlowMaestro()
    one, two = first.installed(), second.installed()
    one.__enter__()
    two.__enter__()
    an_application()
    one.__exit__(None, None, None)
    an_application()
    second.assert_executed("wf_123", times=2)
    two.__exit__(None, None, None)
    assert current_override() is None
    with first.installed(), first.installed():
        an_application()
    first.assert_executed("wf_123", times=1)
    assert current_override() is None


def test_a_key_that_is_known_stays_what_it_is():
    from flowmaestro import AuthenticationError
    from flowmaestro.testing.fake.model import seeds

    with FakeFlowMaestro().installed(), pytest.raises(AuthenticationError):
        an_application(api_key=seeds.EXPIRED_KEY)


def test_an_application_of_threads_keeps_to_virtual_time():
    def work(seconds):
        with FlowMaestroClient() as client:
            return client.workflows.run(f"wf_{seconds}", timeout=10_000)["status"]

    from flowmaestro.testing import Node

    with FakeFlowMaestro() as fake, fake.installed(), ThreadPoolExecutor(4) as pool:
        for seconds in (60, 600, 3600, 7200):
            fake.workflow(f"wf_{seconds}", nodes=[Node("work", seconds=seconds)])
        found = list(pool.map(work, (60, 600, 3600, 7200)))
    assert found == ["completed"] * 4
    assert fake.clock.now >= 7200


def test_an_empty_key_in_the_environment_is_none(monkeypatch):
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "")
    with FakeFlowMaestro().installed(), FlowMaestroClient() as client:
        assert client.workflows.list()["data"]
    with pytest.raises(ValueError, match="from FLOWMAESTRO_API_KEY"):
        FlowMaestroClient()
