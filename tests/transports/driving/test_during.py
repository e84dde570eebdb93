"""A transport that simulates deaths sees each load, save and item, before it happens and after."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Any, Iterator, List

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryCheckpoint,
    MemoryTransport,
)
from flowmaestro_core.actions import Action


class Recording:
    """Notes the actions that it gets, and their ends."""

    seen: List[str]

    @contextmanager
    def during(self, action: Action, file: str) -> Iterator[None]:
        self.seen.append(f"{type(action).__name__}{' ' * bool(file)}{file}")
        yield
        self.seen.append("done")


class RecordingTransport(Recording, MemoryTransport):
    def __init__(self, fake: FakeFlowMaestro) -> None:
        super().__init__(fake)
        self.seen = []


class AsyncRecordingTransport(Recording, AsyncMemoryTransport):
    def __init__(self, fake: FakeFlowMaestro) -> None:
        super().__init__(fake)
        self.seen = []


STEPS = ["Load", "done", "Save", "done", "Save", "done"]


def test_a_sync_driver_enters_a_block_for_each_load_and_save() -> None:
    fake = FakeFlowMaestro()
    transport = RecordingTransport(fake)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        client.workflows.execute("wf_123", checkpoint=MemoryCheckpoint())
    assert transport.seen == STEPS


def test_an_async_driver_enters_a_block_for_each_load_and_save() -> None:
    fake = FakeFlowMaestro()
    transport = AsyncRecordingTransport(fake)

    async def main() -> None:
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            await client.workflows.execute("wf_123", checkpoint=MemoryCheckpoint())

    asyncio.run(main())
    assert transport.seen == STEPS


def test_the_block_gets_the_path_of_a_journal(tmp_path: Any) -> None:
    fake = FakeFlowMaestro()
    transport = RecordingTransport(fake)
    path = str(tmp_path / "runs.sqlite3")
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        assert len(list(client.workflows.run_many("wf_123", [{}], journal=path))) == 1
    assert {f"Load {path}", f"Save {path}", "Emit"} <= set(transport.seen)


def test_an_item_is_not_delivered_if_the_block_raises() -> None:
    class Dead(BaseException):
        pass

    class Dying(RecordingTransport):
        @contextmanager
        def during(self, action: Action, file: str) -> Iterator[None]:
            raise Dead
            yield

    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=Dying(fake)) as client:
        items = iter(client.workflows.iterate())
        with pytest.raises(Dead):
            next(items)
