"""What counts as a call in flight, so that time stands still, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    Node,
    VirtualClock,
)
from tests.harness.testing.side_by_side import BACKENDS, PATIENCE, in_tasks, in_threads, together


class Watched(MemoryTransport):
    """Notes when a call begins and ends."""

    def __init__(self, fake):
        super().__init__(fake)
        self.depth = 0
        self.notes = []

    @contextlib.contextmanager
    def in_flight(self):
        self.depth += 1
        if self.depth == 1:
            self.notes.append("begins")
        with super().in_flight():
            yield
        self.depth -= 1
        if self.depth == 0:
            self.notes.append("ends")


class TestOneCall:
    """From its first step to its last, whatever it is made of, a call is in flight."""

    def test_no_time_passes_between_its_requests(self, fake):
        transport = Watched(fake)
        client = FlowMaestroClient(fake.api_key, transport=transport)
        client.workflows.run("wf_123")
        fake.fail_next(2)
        client.workflows.get("wf_123")
        assert transport.notes == ["begins", "ends"] * 2

    def test_callbacks_and_loop_bodies_are_not_in_flight(self, fake):
        transport = Watched(fake)
        client = FlowMaestroClient(fake.api_key, transport=transport)
        depths = []
        client.workflows.run("wf_123", on_event=lambda event: depths.append(transport.depth))
        depths += [transport.depth for _ in client.executions.stream("exec_xyz789")]
        assert set(depths) == {0}


class TestWhoCounts:
    @BACKENDS
    def test_a_task_between_two_calls_may_run_first(self, backend):
        async def main():
            transport, ends = AsyncMemoryTransport(FakeFlowMaestro()), []

            async def hesitant():
                for _ in range(3):
                    await transport.sleep(1)
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
                    ends.append(transport.now())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.sleep, 100)
                tasks.start_soon(hesitant)
            assert ends == [1, 2, 3]

        in_tasks(backend, main)

    @BACKENDS
    def test_a_blocking_call_holds_up_the_tasks_of_its_loop(self, backend):
        async def main():
            fake = FakeFlowMaestro()
            transport = AsyncMemoryTransport(fake)
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(transport.sleep, 5)
                await transport.sleep(5)
                MemoryTransport(fake).sleep(10)
                assert fake.clock.now == 15
                fake.clock.advance(10)
                assert fake.clock.now == 25

        in_tasks(backend, main)

    @BACKENDS
    def test_a_loop_that_is_gone_holds_up_nobody(self, backend, fake):

        async def main():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(AsyncMemoryTransport(fake).sleep, 100)
                await AsyncMemoryTransport(fake).sleep(1)
                tasks.cancel_scope.cancel()

        in_tasks(backend, main)
        fake.clock.advance(10)
        assert fake.clock.now == 11

    def test_a_hook_that_waits_for_another_call_does_not_stop_time(self):
        from flowmaestro import Hooks

        async def main():
            fake = FakeFlowMaestro()
            turn = asyncio.Semaphore(1)

            async def take_turn(info):
                await turn.acquire()

            async def give_turn(info):
                turn.release()

            fake.latency(1)
            client = AsyncFlowMaestroClient(
                fake.api_key,
                transport=fake.async_transport(),
                hooks=Hooks(request=take_turn, response=give_turn),
            )
            await asyncio.gather(*[client.workflows.get("wf_123") for _ in range(3)])
            assert fake.clock.now == 3

        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def test_a_call_made_while_a_call_is_built_counts_once(self, fake, client):

        def inputs():
            for _ in range(3):
                fake.clock.advance(5)
                yield {"name": "Ada"}

        assert len(list(client.workflows.run_many("wf_123", inputs()))) == 3
        assert fake.clock.now >= 15

    def test_inputs_of_many_that_wait_for_a_call_of_another_thread_do_not_stop_time(
        self, fake, client
    ):
        fake.latency(5)

        def inputs():
            with ThreadPoolExecutor() as pool:
                pages = pool.submit(client.workflows.list).result(PATIENCE)
                yield {"name": pages["data"][0]["name"]}

        (run,) = client.workflows.run_many("wf_123", inputs())
        assert run.ok


class TestCallLater:
    def test_planned_calls_run_at_their_time(self):
        clock, seen = VirtualClock(10.0), []
        clock.call_later(5, lambda: seen.append(clock.now))
        clock.call_later(2, lambda: clock.call_later(1, lambda: seen.append(clock.now)))
        clock.advance(4)
        assert (seen, clock.now) == ([13.0], 14.0)
        clock.advance(4)
        assert (seen, clock.now) == ([13.0, 15.0], 18.0)

    def test_a_scheduled_function_may_make_calls(self, fake, client):
        slow = fake.workflow(nodes=[Node("work", seconds=60)])
        started = client.workflows.execute(slow)["data"]["execution_id"]
        fake.clock.call_later(7, lambda: client.executions.cancel(started))
        assert client.executions.wait_for_completion(started)["status"] == "cancelled"
        (execution,) = fake.executions
        assert execution.completed_at == 7

    def test_a_call_waiting_in_a_scheduled_function_delays_its_thread_only(self):
        fake, ends = FakeFlowMaestro(), []
        transport, gate = MemoryTransport(fake), together(2)
        fake.clock.call_later(1, lambda: transport.sleep(10))

        def sleeper(seconds):
            def sleep():
                with transport.in_flight():
                    gate.wait()
                    transport.sleep(seconds)
                    ends.append(transport.now())

            return sleep

        in_threads(sleeper(5), sleeper(30))
        assert ends in ([5, 30], [11, 30]), "whichever of them moved time"

    def test_exception_of_planned_call_reaches_who_advances_time(self):
        clock = VirtualClock()
        clock.call_later(1, lambda: [].pop())
        with pytest.raises(IndexError):
            clock.advance(2)
        clock.advance(2)
        assert clock.now == 3
