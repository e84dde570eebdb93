"""A batch whose journal is a store of the caller: taken up, fenced, and told what is wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    CheckpointConflict,
    FlowMaestroClient,
    JournalError,
)
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
)
from tests.harness.core.journals import MemoryStore

ROWS = [{"n": number} for number in range(6)]


@pytest.fixture
def fake() -> FakeFlowMaestro:
    fake = FakeFlowMaestro()
    fake.workflow("wf_mine", outputs=dict)
    return fake


@pytest.fixture
def client(fake: FakeFlowMaestro) -> Iterator[FlowMaestroClient]:
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        yield client


def run(client: FlowMaestroClient, store: Any, rows: Any = ROWS, **more: Any) -> Any:
    return client.workflows.run_many("wf_mine", rows, journal=store, **more)


def started(fake: FakeFlowMaestro) -> List[int]:
    return sorted(it.inputs["n"] for it in fake.executions if it.inputs["n"] >= 0)


class Later(MemoryStore):
    """The same as coroutine functions."""

    async def load(self, keys: Sequence[str], outcomes: bool) -> Any:  # type: ignore[override]
        await self._begin()
        return super().load(keys, outcomes)

    async def save(self, states: Sequence[Dict[str, Any]]) -> None:  # type: ignore[override]
        await self._begin()
        super().save(states)

    async def known(self, execution_ids: Sequence[str]) -> Any:  # type: ignore[override]
        await self._begin()
        return super().known(execution_ids)

    async def _begin(self) -> None:
        await anyio.lowlevel.checkpoint()


class Hanging(Later):
    """Does not return from one call, counted from 1. `done` is set when it has got there."""

    def __init__(self, moment: int, done: anyio.Event) -> None:
        super().__init__()
        self.has_hung = False
        self._left = moment
        self._done = done

    async def _begin(self) -> None:
        self._left -= 1
        if not self._left:
            self.has_hung = True
            self._done.set()
            await anyio.sleep_forever()


class Failing(MemoryStore):
    """Raises at one call, counted from 1: `before` or `after` it has done what it was asked."""

    def __init__(self, moment: int, when: str) -> None:
        super().__init__()
        self.left = moment
        self._when = when

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        self.left -= 1
        if not self.left and self._when == "before":
            raise OSError("the database is away")
        done = method(*args)
        if not self.left and self._when == "after":
            raise OSError("the database is away")
        return done

    def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        return self._call(super().load, keys, outcomes)

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        return self._call(super().save, states)

    def known(self, execution_ids: Sequence[str]) -> Any:
        return self._call(super().known, execution_ids)


class Half(MemoryStore):
    """Keeps a part of one save, counted from 1, and raises."""

    def __init__(self, moment: int, part: slice) -> None:
        super().__init__()
        self.left = moment
        self._part = part

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        self.left -= 1
        if self.left:
            return super().save(states)
        for state in states[self._part]:
            self.keep(state)
        raise OSError("the database is away")


def test_async_client_takes_both_kinds_of_stores(fake: FakeFlowMaestro) -> None:
    async def main(store: Any) -> None:
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            many: Any = client.workflows.run_many
            async with many("wf_mine", ROWS, journal=store, concurrency=2) as runs:
                await runs.__anext__()
            assert not any('"starting"' in state for state in store.states.values())
            outcomes = [it async for it in many("wf_mine", ROWS, journal=store)]
            assert [it.ok for it in outcomes] == [True] * 6

    for store in (MemoryStore(), Later()):
        anyio.run(main, store)
    assert started(fake) == sorted([*range(6)] * 2)


@pytest.mark.parametrize("kind", ["sync", "async", "file"])
def test_batch_that_ends_early_leaves_no_announced_row_in_doubt(
    fake: FakeFlowMaestro, client: FlowMaestroClient, tmp_path: Path, kind: str
) -> None:
    """Else the next call would wait for `settle_after`, which is 60 s."""
    store: Any = str(tmp_path / "j") if kind == "file" else MemoryStore()

    def leave(row: Any) -> None:
        raise LookupError

    async def main() -> None:
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            many: Any = client.workflows.run_many
            async with many("wf_mine", ROWS, journal=store, on_start=leave) as runs:
                await runs.__anext__()

    begin: Callable[[], Any] = partial(anyio.run, main)
    if kind != "async":
        begin = partial(next, run(client, store, on_start=leave))
    with pytest.raises(LookupError):
        begin()
    begun = fake.clock.now
    assert all(it.ok for it in run(client, store))
    assert fake.clock.now - begun < 30.0
    assert started(fake) == list(range(6))


def test_dropped_async_handle_leaves_rows_of_a_store_in_doubt(fake: FakeFlowMaestro) -> None:
    async def main() -> None:
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            many: Any = client.workflows.run_many
            runs = many("wf_mine", ROWS, journal=store)
            await runs.__anext__()
            del runs
            assert all([it.ok async for it in many("wf_mine", ROWS, journal=store)])

    store = Later()
    anyio.run(main)
    assert started(fake) == list(range(6))


def test_sync_client_refuses_coroutine_functions(client: FlowMaestroClient) -> None:
    with pytest.raises(TypeError, match=r"given as journal\.load"):
        run(client, Later())


@pytest.mark.parametrize("when", ["before", "after"])
def test_store_that_raises_at_any_call_ends_the_batch_and_starts_nothing_twice(when: str) -> None:
    for moment in range(1, 100):
        fake = FakeFlowMaestro()
        fake.workflow("wf_mine", outputs=dict)
        store = Failing(moment, when)
        with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
            client.workflows.execute("wf_mine", inputs={"n": -1})
            fake.fail_next(status=500, path="/workflows/*/execute")  # so that `known` is called
            failures = []
            try:
                list(run(client, store, ROWS[:3], concurrency=2))
            except JournalError as error:
                failures.append(error)
            for failure in failures:
                assert failure.code == "journal_unusable"
                assert "raised OSError: the database is away" in str(failure)
                assert isinstance(failure.__cause__, OSError)
            store.left = 0
            assert all(it.ok for it in run(client, store, ROWS[:3]))
        assert started(fake) == [0, 1, 2]
        if not failures:
            break
    assert moment > 10


def test_batch_that_another_process_has_taken_over_ends_and_sends_nothing(
    fake: FakeFlowMaestro, client: FlowMaestroClient
) -> None:
    store = MemoryStore()
    with run(client, store, concurrency=2) as first:
        next(first)
        other = FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))
        again = run(other, store)
        next(again)
        sent = len(fake.requests)
        with pytest.raises(JournalError) as caught:
            list(first)
        assert caught.value.code == "journal_busy"
        assert isinstance(caught.value.__cause__, CheckpointConflict)
        posts = [it for it in fake.requests[sent:] if it.method == "POST"]
        assert len(posts) <= 1, "a start that was announced before"
    list(again)
    assert started(fake) == list(range(6))
    assert all(it.replayed for it in run(client, store))


@pytest.mark.parametrize("method", ["load", "known"])
def test_garbage_of_a_store_is_named(
    fake: FakeFlowMaestro, client: FlowMaestroClient, method: str
) -> None:
    """A store without `return`. What garbage there is, `tests/core` tries."""
    store = MemoryStore()
    setattr(store, method, lambda *_: None)
    fake.fail_next(status=500, path="/workflows/*/execute")  # so that `known` is called
    with pytest.raises(JournalError, match=f"{method} raised TypeError") as caught:
        list(run(client, store, ROWS[:2]))
    assert caught.value.code == "journal_unusable"
    assert method == "known" or fake.requests == []


def test_store_that_hangs_at_any_call_holds_its_batch() -> None:
    """No request goes out until the call returns, and the next batch starts nothing twice."""

    async def main(moment: int) -> bool:
        fake = FakeFlowMaestro()
        fake.workflow("wf_mine", outputs=dict)
        done = anyio.Event()
        store = Hanging(moment, done)
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            many: Any = client.workflows.run_many
            await client.workflows.execute("wf_mine", inputs={"n": -1})
            fake.fail_next(status=500, path="/workflows/*/execute")  # so that `known` is called

            async def batch() -> None:
                assert all([it.ok async for it in many("wf_mine", ROWS[:3], journal=store)])
                done.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(batch)
                await done.wait()
                sent = len(fake.requests)
                await anyio.wait_all_tasks_blocked()
                assert len(fake.requests) == sent
                tasks.cancel_scope.cancel()
            if store.has_hung:
                assert all([it.ok async for it in many("wf_mine", ROWS[:3], journal=store)])
            assert started(fake) == [0, 1, 2]
            return store.has_hung

    moment = 1
    while anyio.run(main, moment):
        moment += 1
    assert moment > 10


@pytest.mark.parametrize("part", [slice(1), slice(1, None), slice(-1)])
def test_store_that_keeps_a_part_of_a_save_starts_nothing_twice(part: slice) -> None:
    """The header alone, the rows alone, all but the last row."""
    for moment in range(1, 100):
        fake = FakeFlowMaestro()
        fake.workflow("wf_mine", outputs=dict)
        store = Half(moment, part)
        with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
            client.workflows.execute("wf_mine", inputs={"n": -1})
            failures = []
            for _ in range(2):
                try:
                    outcomes = list(run(client, store, ROWS[:3], concurrency=2))
                except JournalError as error:
                    failures.append(str(error))
                else:
                    assert all(it.ok for it in outcomes)
            first, *again = failures or [""]
            assert first == "" or "save raised OSError: the database is away" in first
            assert all("a header that is older than the state of a row" in it for it in again)
        assert len(started(fake)) == len(set(started(fake)))
        if not failures:
            break
    assert moment > 4
