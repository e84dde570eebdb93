"""Time passes when every call in flight waits, and each wait ends at exactly its own time."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    Node,
)
from tests.harness.testing.side_by_side import BACKENDS, in_tasks, in_threads, together
from tests.harness.testing.stillness import watch_timers

DURATIONS = st.lists(
    st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


def expected(sleepers):
    """When each sleep of each sleeper ends, added up as a clock does."""
    ends = []
    for number, durations in enumerate(sleepers):
        now = 0.0
        for duration in durations:
            now += duration
            ends.append((now, number))
    return sorted(ends)


async def sleep_one_by_one(transport, durations, ends, number):
    for duration in durations:
        await transport.sleep(duration)
        ends.append((transport.now(), number))


class TestSleepers:
    """Sleeps of several calls in flight at once, each call made of several sleeps."""

    @given(sleepers=DURATIONS, cancelled=st.floats(0, 500, allow_subnormal=False))
    @settings(deadline=None, max_examples=40)
    @BACKENDS
    def test_a_cancelled_one_holds_up_nobody(self, backend, sleepers, cancelled):
        async def main():
            transport, ends = AsyncMemoryTransport(FakeFlowMaestro()), []

            async with anyio.create_task_group() as tasks:
                for number, durations in enumerate(sleepers):
                    tasks.start_soon(sleep_one_by_one, transport, durations, ends, number)
                async with anyio.create_task_group() as given_up:
                    given_up.start_soon(transport.sleep, 10_000.0)
                    await transport.sleep(cancelled)
                    given_up.cancel_scope.cancel()
            assert sorted(ends) == expected(sleepers)
            assert transport.now() == max(cancelled, *[now for now, _ in ends])

        in_tasks(backend, main)

    @given(threads=DURATIONS, tasks=DURATIONS)
    @settings(deadline=None, max_examples=25)
    @BACKENDS
    def test_calls_of_threads_and_tasks_share_one_clock(self, backend, threads, tasks):
        fake, ends = FakeFlowMaestro(), []
        gate = together(len(threads) + 1)

        def sleeper(number):
            def sleep():
                transport = MemoryTransport(fake)
                with transport.in_flight():
                    gate.wait()
                    for duration in threads[number]:
                        transport.sleep(duration)
                        ends.append((transport.now(), number))

            return sleep

        async def sleep(transport, number, *, task_status):
            with transport.in_flight():
                task_status.started()
                await sleep_one_by_one(transport, tasks[number], ends, len(threads) + number)

        async def main():
            transport = AsyncMemoryTransport(fake)
            async with anyio.create_task_group() as group:
                with transport.in_flight():
                    gate.wait()
                    for number in range(len(tasks)):  # all have begun before time advances
                        await group.start(sleep, transport, number)

        in_threads(*map(sleeper, range(len(threads))), lambda: in_tasks(backend, main))
        assert sorted(ends) == expected([*threads, *tasks])
        assert [now for now, _ in ends] == sorted(now for now, _ in ends)


def a_run(fake):
    return fake.workflow(nodes=[Node("work", seconds=1.0)])


class TestConcurrentRuns:
    """Of several runs of a second each, every one takes a second."""

    def alone(self, events):
        fake = FakeFlowMaestro(events=events)
        FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.run(a_run(fake))
        return fake.clock.now

    @pytest.mark.parametrize("events", ["live", "silent"])
    @BACKENDS
    def test_runs_of_tasks_take_a_second_each(self, backend, events):
        fake = FakeFlowMaestro(events=events)
        workflow_id = a_run(fake)

        async def main():
            async with (
                AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport()) as client,
                anyio.create_task_group() as tasks,
            ):
                for _ in range(10):
                    tasks.start_soon(client.workflows.run, workflow_id)

        in_tasks(backend, main)
        assert fake.clock.now == self.alone(events)
        assert {execution.status for execution in fake.executions} == {"completed"}


def test_a_sleep_and_a_timer_are_noticed(monkeypatch):
    no_timers = watch_timers(monkeypatch)

    async def main():
        asyncio.get_running_loop().call_later(0.001, print).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    asyncio.run(main())
    time.sleep(0.001)
    trio.run(trio.sleep, 0.001)
    assert {"call_later", "sleep"} == set(no_timers) - {"call_at"}
    assert no_timers.count("sleep") == 3


def test_the_jitter_of_retries_comes_from_the_seed():
    def waited(seed):
        fake = FakeFlowMaestro(seed=seed)
        fake.fail_next(3)
        FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.get("wf_123")
        return fake.clock.now

    assert waited(1) == waited(1) != waited(2)


@BACKENDS
def test_call_that_would_hang_forever_fails(backend, monkeypatch, fake):
    monkeypatch.setattr("flowmaestro.testing.virtual.clock.LONGEST_CALL", 7200.0)
    fake.workflow("wf_hung", hangs_at="work")
    client = FlowMaestroClient(fake.api_key, transport=fake.transport())
    run = client.workflows.execute("wf_hung")["data"]["execution_id"]
    with pytest.raises(AssertionError, match="gone on for 2 hours of virtual time; does it wait"):
        list(client.executions.stream(run))

    async def main():
        client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())
        with pytest.raises(AssertionError, match="gone on for 2 hours"):
            [event async for event in client.executions.stream(run)]

    anyio.run(main, backend=backend)
    assert not fake.open_streams
    fake.clock.advance(365 * 86_400)
    assert client.executions.get(run)["data"]["status"] == "running"


def test_time_passes_for_a_thread_that_a_blocked_call_waits_for():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    with fake.clock.in_flight(), fake.clock.blocked():
        in_threads(lambda: transport.sleep(5))
    assert transport.now() == 5
