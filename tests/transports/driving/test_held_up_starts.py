"""A `request` hook holds up a start until another process may have looked for it."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

from flowmaestro import FlowMaestroClient, Hooks, JournalError, RequestInfo
from flowmaestro.testing import FakeFlowMaestro, MemoryCheckpoint, MemoryTransport
from tests.harness.core.journals import MemoryStore


@pytest.fixture
def fake() -> FakeFlowMaestro:
    fake = FakeFlowMaestro()
    fake.workflow("wf_mine", outputs=dict)
    # The newest one from before shows that the right list is read.
    other_client(fake).workflows.execute("wf_mine", inputs={"n": "before"})
    return fake


def other_client(fake: FakeFlowMaestro) -> FlowMaestroClient:
    return FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))


def client_held_up(
    fake: FakeFlowMaestro, seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> FlowMaestroClient:
    """Return a client whose first start waits so long, while `meanwhile` is done."""
    transport = MemoryTransport(fake)
    left: List[None] = [None]

    def hold_up(info: RequestInfo) -> None:
        if info.method == "POST" and left:
            left.pop()
            transport.sleep(seconds)
            meanwhile()

    return FlowMaestroClient(fake.api_key, transport=transport, hooks=Hooks(request=hold_up))


def started(fake: FakeFlowMaestro) -> List[Any]:
    return [it.inputs["n"] for it in fake.executions if it.inputs["n"] != "before"]


def posts(fake: FakeFlowMaestro) -> int:
    return sum(request.method == "POST" for request in fake.requests) - 1


@pytest.mark.parametrize("seconds", [5, 40])
def test_held_up_run_with_a_checkpoint_starts_once(fake: FakeFlowMaestro, seconds: float) -> None:
    kept = MemoryCheckpoint()

    def other_process() -> None:
        run = other_client(fake).workflows.run("wf_mine", {"n": 1}, checkpoint=kept)
        assert run["status"] == "completed"

    client = client_held_up(fake, seconds, other_process)
    assert client.workflows.run("wf_mine", {"n": 1}, checkpoint=kept)["status"] == "completed"
    assert started(fake) == [1]
    assert posts(fake) == 1


def test_held_up_batch_on_a_store_without_a_lock_starts_once(fake: FakeFlowMaestro) -> None:
    store = MemoryStore()

    def other_process() -> None:
        runs = other_client(fake).workflows.run_many("wf_mine", [{"n": 1}], journal=store)
        assert [outcome.ok for outcome in runs] == [True]

    client = client_held_up(fake, 40, other_process)
    with pytest.raises(JournalError) as caught:
        list(client.workflows.run_many("wf_mine", [{"n": 1}], journal=store))
    assert caught.value.code == "journal_busy"
    assert started(fake) == [1]
    assert posts(fake) == 1
