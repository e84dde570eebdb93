"""Time passes when every call in flight waits, and each wait ends at exactly its own time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from stillness import SocketWatch, watch_timers

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    Node,
    VirtualClock,
)

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
DURATIONS = st.lists(
    st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)
PATIENCE = 60.0
"""Seconds of true time, for a thread that must come to an end."""


def expected(sleepers):
    """When each sleep of each sleeper ends, added up as a clock does."""
    ends = []
    for number, durations in enumerate(sleepers):
        now = 0.0
        for duration in durations:
            now += duration
            ends.append((now, number))
    return sorted(ends)


def in_threads(*functions):
    """Run each in a thread of its own; raises what one of them raised."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a call waits for something that never comes"
    if errors:
        raise errors[0]


def in_tasks(backend, main):
    async def bounded():
        with anyio.fail_after(PATIENCE):
            await main()

    anyio.run(bounded, backend=backend)


def together(count):
    """A gate that opens once `count` threads stand before it."""
    return threading.Barrier(count, timeout=PATIENCE)


class TestSleepers:
    """Sleeps of several calls in flight at once, each call made of several sleeps."""

    @given(sleepers=DURATIONS)
    @settings(deadline=None, max_examples=60)
    def test_in_threads(self, sleepers):
        transport, ends = MemoryTransport(FakeFlowMaestro()), []
        gate = together(len(sleepers))

        def sleeper(number):
            def sleep():
                with transport.in_flight():
                    gate.wait()
                    for duration in sleepers[number]:
                        transport.sleep(duration)
                        ends.append((transport.now(), number))

            return sleep

        in_threads(*map(sleeper, range(len(sleepers))))
        assert sorted(ends) == expected(sleepers)
        assert [now for now, _ in ends] == sorted(now for now, _ in ends)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @given(sleepers=DURATIONS)
    @settings(deadline=None, max_examples=60)
    def test_in_tasks(self, backend, sleepers):
        async def main():
            transport, ends = AsyncMemoryTransport(FakeFlowMaestro()), []

            async def sleep(number):
                for duration in sleepers[number]:
                    await transport.sleep(duration)
                    ends.append((transport.now(), number))

            async with anyio.create_task_group() as tasks:
                for number in range(len(sleepers)):
                    tasks.start_soon(sleep, number)
            assert sorted(ends) == expected(sleepers)
            assert [now for now, _ in ends] == sorted(now for now, _ in ends)

        in_tasks(backend, main)

    @given(sleepers=DURATIONS, cancelled=st.floats(0, 500, allow_subnormal=False))
    @settings(deadline=None, max_examples=40)
    @BACKENDS
    def test_a_cancelled_one_holds_up_nobody(self, backend, sleepers, cancelled):
        async def main():
            transport, ends = AsyncMemoryTransport(FakeFlowMaestro()), []

            async def sleep(number):
                for duration in sleepers[number]:
                    await transport.sleep(duration)
                    ends.append((transport.now(), number))

            async with anyio.create_task_group() as tasks:
                for number in range(len(sleepers)):
                    tasks.start_soon(sleep, number)
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
    def test_in_threads_and_tasks_on_one_fake(self, backend, threads, tasks):
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

        async def sleep(transport, number):
            with transport.in_flight():
                for duration in tasks[number]:
                    await transport.sleep(duration)
                    ends.append((transport.now(), len(threads) + number))

        async def main():
            transport = AsyncMemoryTransport(fake)
            async with anyio.create_task_group() as group:
                with transport.in_flight():
                    gate.wait()
                    for number in range(len(tasks)):
                        group.start_soon(sleep, transport, number)
                    await anyio.lowlevel.checkpoint()

        in_threads(*map(sleeper, range(len(threads))), lambda: in_tasks(backend, main))
        assert sorted(ends) == expected([*threads, *tasks])


RUN_SECONDS = 1.0


def a_run(fake, seconds=RUN_SECONDS):
    return fake.workflow(nodes=[Node("work", seconds=seconds)])


class TestConcurrentRuns:
    """Of several runs of a second each, every one takes a second."""

    def alone(self, events):
        fake = FakeFlowMaestro(events=events)
        FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.run(a_run(fake))
        return fake.clock.now

    @pytest.mark.parametrize("events", ["live", "silent"])
    @BACKENDS
    def test_in_tasks(self, backend, events):
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

    @pytest.mark.parametrize("events", ["live", "silent"])
    def test_in_threads(self, events):
        fake = FakeFlowMaestro(events=events)
        workflow_id, gate = a_run(fake), together(4)
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())

        def run():
            with fake.clock.in_flight():  # so that none begins before all are there
                gate.wait()
                client.workflows.run(workflow_id)

        in_threads(*[run] * 4)
        assert fake.clock.now == self.alone(events)

    def test_through_asyncio_s_own_gather(self):
        fake = FakeFlowMaestro()
        quick, slow = a_run(fake, 1.0), a_run(fake, 2.0)
        ended = {}

        async def main():
            client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())

            async def run(workflow_id):
                await client.workflows.run(workflow_id)
                ended[workflow_id] = fake.clock.now

            await asyncio.gather(run(slow), run(quick))

        asyncio.run(main())
        assert ended[slow] - ended[quick] == pytest.approx(1.0)

    def test_through_trio_s_own_nursery(self):
        fake = FakeFlowMaestro()
        quick, slow = a_run(fake, 1.0), a_run(fake, 2.0)
        ended = {}

        async def main():
            client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())

            async def run(workflow_id):
                await client.workflows.run(workflow_id)
                ended[workflow_id] = fake.clock.now

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, slow)
                nursery.start_soon(run, quick)

        trio.run(main)
        assert ended[slow] - ended[quick] == pytest.approx(1.0)


class Watched(MemoryTransport):
    """Notes when a call begins and ends, and may give other threads a chance in between."""

    def __init__(self, fake, chance=None):
        super().__init__(fake)
        self.depth = 0
        self.notes = []
        self._chance = chance

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

    def now(self):
        if self._chance is not None:
            self._chance.wait(0.02)  # in true time: whoever wrongly may go on, does it now
        return super().now()


class TestOneCall:
    """From its first step to its last, whatever it is made of, a call is in flight."""

    def test_no_time_passes_between_its_requests(self):
        fake, passed, gate = FakeFlowMaestro(), threading.Event(), together(2)
        transport = Watched(fake, chance=passed)
        client = FlowMaestroClient(fake.api_key, transport=transport)
        fake.fail_next(2)

        def other():
            with fake.clock.in_flight():
                gate.wait()
                fake.clock.advance(100)
            passed.set()

        def call():
            with fake.clock.in_flight():
                gate.wait()
            client.workflows.get("wf_123")
            assert fake.requests[-1].time < 10

        in_threads(other, call)
        assert fake.clock.now == 100

    def test_it_is_one_from_beginning_to_end(self):
        fake = FakeFlowMaestro()
        transport = Watched(fake)
        client = FlowMaestroClient(fake.api_key, transport=transport)
        client.workflows.run("wf_123")
        assert transport.notes == ["begins", "ends"]

    def test_but_not_while_a_listener_or_the_body_of_a_loop_runs(self):
        fake = FakeFlowMaestro()
        transport = Watched(fake)
        client = FlowMaestroClient(fake.api_key, transport=transport)
        depths = []
        client.workflows.run("wf_123", on_event=lambda event: depths.append(transport.depth))
        depths += [transport.depth for _ in client.executions.stream("exec_xyz789")]
        assert set(depths) == {0}


class TestWhoCounts:
    def test_a_thread_that_makes_no_call_does_not(self):
        fake, released = FakeFlowMaestro(), threading.Event()
        idle = threading.Thread(target=released.wait, args=(PATIENCE,))
        idle.start()
        fake.clock.advance(60)
        released.set()
        idle.join(PATIENCE)
        assert fake.clock.now == 60

    @BACKENDS
    def test_a_task_that_makes_no_call_does_not(self, backend):
        async def main():
            transport = AsyncMemoryTransport(FakeFlowMaestro())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.Event().wait)
                await transport.sleep(60)
                assert transport.now() == 60
                tasks.cancel_scope.cancel()

        in_tasks(backend, main)

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
    def test_a_loop_that_is_gone_holds_up_nobody(self, backend):
        fake = FakeFlowMaestro()

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

    def test_a_call_made_while_a_call_is_built_counts_once(self):
        fake = FakeFlowMaestro()
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())

        def inputs():
            for _ in range(3):
                fake.clock.advance(5)
                yield {"name": "Ada"}

        assert len(list(client.workflows.run_many("wf_123", inputs()))) == 3
        assert fake.clock.now >= 15

    def test_inputs_of_many_that_wait_for_a_call_of_another_thread_do_not_stop_time(self):
        fake = FakeFlowMaestro()
        fake.latency(5)
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())

        def inputs():
            with ThreadPoolExecutor() as pool:
                pages = pool.submit(client.workflows.list).result(PATIENCE)
                yield {"name": pages["data"][0]["name"]}

        (run,) = client.workflows.run_many("wf_123", inputs())
        assert run["status"] == "completed"


class TestCallLater:
    def test_what_is_planned_happens_at_its_time(self):
        clock, seen = VirtualClock(10.0), []
        clock.call_later(5, lambda: seen.append(clock.now))
        clock.call_later(2, lambda: clock.call_later(1, lambda: seen.append(clock.now)))
        clock.advance(4)
        assert (seen, clock.now) == ([13.0], 14.0)
        clock.advance(4)
        assert (seen, clock.now) == ([13.0, 15.0], 18.0)

    def test_it_may_make_calls(self):
        fake = FakeFlowMaestro()
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        started = client.workflows.execute(a_run(fake, 60))["data"]["execution_id"]
        fake.clock.call_later(7, lambda: client.executions.cancel(started))
        assert client.executions.wait_for_completion(started)["status"] == "cancelled"
        (execution,) = fake.executions
        assert execution.completed_at == 7

    def test_a_call_that_waits_in_it_takes_the_time_of_its_thread_alone(self):
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

    def test_what_it_raises_reaches_who_moved_time_and_nobody_else(self):
        clock = VirtualClock()
        clock.call_later(1, lambda: [].pop())
        with pytest.raises(IndexError):
            clock.advance(2)
        clock.advance(2)
        assert clock.now == 3


@pytest.fixture
def no_timers(monkeypatch):
    """The sleeps and timers that somebody asked for; a sleep of nothing lets others run."""
    return watch_timers(monkeypatch)


def test_a_sleep_and_a_timer_are_noticed(no_timers):
    async def main():
        asyncio.get_running_loop().call_later(0.001, print).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    asyncio.run(main())
    time.sleep(0.001)
    trio.run(trio.sleep, 0.001)
    assert {"call_later", "sleep"} == set(no_timers) - {"call_at"}
    assert no_timers.count("sleep") == 3


def test_a_socket_that_leads_outside_is_noticed():
    watch = SocketWatch()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        socket.getaddrinfo("127.0.0.1", 80)
        assert watch.uses == ["socket.bind", "socket.getaddrinfo"]
        watch.stop()
        one.connect_ex(("127.0.0.1", 9))
    assert len(watch.uses) == 2


def test_nobody_sleeps_and_no_timer_is_set(no_timers):
    fake = FakeFlowMaestro(events="silent")
    slow = a_run(fake, 200)

    async def main():
        async with (
            AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport()) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(3):
                tasks.start_soon(client.workflows.run, slow)
            await client.executions.wait_for_completion("exec_xyz789")

    fake.fail_next(2, 429)
    FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.run(slow)
    in_threads(*[FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.list] * 3)
    anyio.run(main, backend="asyncio")
    trio.run(main)
    assert no_timers == []


def test_the_jitter_of_retries_comes_from_the_seed():
    def waited(seed):
        fake = FakeFlowMaestro(seed=seed)
        fake.fail_next(3)
        FlowMaestroClient(fake.api_key, transport=fake.transport()).workflows.get("wf_123")
        return fake.clock.now

    assert waited(1) == waited(1) != waited(2)


def test_a_rate_limit_s_window_passes_in_virtual_time():
    fake = FakeFlowMaestro()
    fake.rate_limit(per_minute=10)
    client = FlowMaestroClient(fake.api_key, transport=fake.transport())
    for _ in range(25):
        client.workflows.get("wf_123")
    assert 120 <= fake.clock.now < 130
    assert [request.status for request in fake.requests].count(429) == 2
