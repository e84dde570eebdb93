"""Hundreds of streams at once: open, quiet and closed, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from typing import Any, Callable, Dict, Iterator

import anyio
import pytest
import trio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError, StreamTimes
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro.testing.fake.model import seeds
from tests.harness.faults.cells import EVERY
from tests.harness.runners import ASYNC, Runner

pytest.importorskip("resource", reason="open files are counted as Unix does")
from tests.harness.faults.open_files import open_files, room_for

STREAMS = 1_000 if EVERY == 1 else 400
THREADS = 100
PATIENCE = 60.0
"""Seconds that nothing takes on a machine that is not stuck."""
QUIET = StreamTimes(event_idle=300.0, event_idle_max=300.0)
TASKS: Dict[str, Callable[[], int]] = {
    "asyncio": lambda: len(asyncio.all_tasks()),
    "trio": lambda: trio.lowlevel.current_statistics().tasks_living,
}


@pytest.fixture
def served() -> Iterator[Any]:
    """A fake, an execution whose streams say `connected` and fall silent, and options of clients.

    Afterwards, no stream is open and no file is left.
    """
    gc.collect()
    before = open_files()
    fake = FakeFlowMaestro(events="silent")
    with running_server(fake) as url:
        options: Any = {"base_url": url, "stream_times": QUIET, "timeout": PATIENCE}
        with FlowMaestroClient(fake.api_key, **options) as client:
            run = client.workflows.execute(seeds.PAUSING_WORKFLOW_ID)
        yield fake, run["data"]["execution_id"], options
        deadline = time.monotonic() + PATIENCE
        while fake.open_streams:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    gc.collect()
    assert open_files() == before


@pytest.mark.parametrize("runner", ASYNC, ids=str)
def test_hundreds_of_tasks(runner: Runner, served: Any, capsys: Any) -> None:
    fake, execution, options = served
    with capsys.disabled():
        count = room_for(2 * STREAMS) // 8 * 4  # A stream has a socket on each side.
    endings: Counter[str] = Counter()
    connected = 0
    backend = runner.backend or ""

    async def main() -> None:
        all_open, leave = anyio.Event(), anyio.Event()

        async def opened(stream: Any) -> None:
            nonlocal connected
            assert (await stream.__anext__())["type"] == "connected"
            connected += 1
            if connected == count:
                all_open.set()

        async def read_on(stream: Any) -> None:
            await opened(stream)
            try:
                await stream.__anext__()
            except StreamError as error:
                endings[error.code] += 1
            except anyio.get_cancelled_exc_class():
                endings["cancelled"] += 1
                raise

        async def leave_it(stream: Any) -> None:
            async with stream:
                await opened(stream)
                await leave.wait()
            endings["left"] += 1

        tasks = TASKS[backend]()
        transport = runner.make()
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport, **options) as client:
            streams = [client.executions.stream(execution) for _ in range(count)]
            with anyio.fail_after(PATIENCE * 4):
                async with anyio.create_task_group() as group, anyio.create_task_group() as gone:
                    for stream in streams[::2]:
                        group.start_soon(read_on, stream)
                    for left, cancelled in zip(streams[1::4], streams[3::4]):
                        group.start_soon(leave_it, left)
                        gone.start_soon(read_on, cancelled)
                    await all_open.wait()
                    assert fake.open_streams == count
                    assert not endings
                    leave.set()
                    for stream in streams[::2]:
                        await stream.close()
                    gone.cancel_scope.cancel()
                while fake.open_streams:  # noqa: ASYNC110 - a server tells nobody
                    await anyio.sleep(0.02)
        with anyio.fail_after(PATIENCE):
            while TASKS[backend]() != tasks:  # noqa: ASYNC110 - a loop tells nobody when one ends
                await anyio.sleep(0.02)

    anyio.run(main, backend=backend)
    assert endings == {"stream_closed": count // 2, "cancelled": count // 4, "left": count // 4}


def test_a_hundred_threads(served: Any) -> None:
    fake, execution, options = served
    threads_before = set(threading.enumerate())
    endings: Counter[str] = Counter()
    all_open = threading.Barrier(THREADS + 1, timeout=PATIENCE)
    leave = threading.Event()

    def read(stream: Any, leaves: bool) -> None:
        assert next(stream)["type"] == "connected"
        all_open.wait()
        if leaves:
            leave.wait(PATIENCE)
            endings["left"] += 1
            return
        try:
            next(stream)
        except StreamError as error:
            endings[error.code] += 1

    with FlowMaestroClient(fake.api_key, **options) as client:
        streams = [client.executions.stream(execution) for _ in range(THREADS)]
        threads = [
            threading.Thread(target=read, args=(stream, number % 2 == 0))
            for number, stream in enumerate(streams)
        ]
        for thread in threads:
            thread.start()
        all_open.wait()
        assert fake.open_streams == THREADS
        leave.set()
        for stream in streams[1::2]:
            stream.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert endings == {"left": THREADS // 2, "stream_closed": THREADS // 2}
        del thread, threads, stream, streams
        gc.collect()
        deadline = time.monotonic() + PATIENCE
        while fake.open_streams:  # before the client is closed
            assert time.monotonic() < deadline
    assert set(threading.enumerate()) <= threads_before
