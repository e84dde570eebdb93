"""Hundreds of streams at once: open, quiet and closed, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any, Callable, Dict, Iterator

import anyio
import pytest
import trio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError
from flowmaestro_transports.contract import AsyncTransport
from tests.harness.faults import quiet_server
from tests.harness.faults.cells import EVERY
from tests.harness.faults.clients import KEY
from tests.harness.runners import ASYNC, Runner

pytest.importorskip("resource", reason="open files are counted as Unix does")
from tests.harness.faults.open_files import open_files, room_for

STREAMS = 1_000 if EVERY == 1 else 400
THREADS = 100
QUIET = 0.5
"""Seconds in which nothing happens on any stream."""

PATIENCE = 60.0
"""Seconds that nothing takes on a machine that is not stuck."""

PAUSE = 0.02


TASKS: Dict[str, Callable[[], int]] = {
    "asyncio": lambda: len(asyncio.all_tasks()),
    "trio": lambda: trio.lowlevel.current_statistics().tasks_living,
}


@pytest.fixture
def quiet_url() -> Iterator[str]:
    command = [sys.executable, quiet_server.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


@pytest.mark.parametrize("runner", ASYNC, ids=str)
def test_hundreds_of_tasks(runner: Runner, quiet_url: str, capsys: Any) -> None:
    with capsys.disabled():
        count = room_for(STREAMS) // 4 * 4
    assert runner.backend
    gc.collect()
    before = open_files()
    crowd = Crowd(quiet_url, count, TASKS[runner.backend])
    assert anyio.run(crowd.run, runner.make, backend=runner.backend) == {
        "stream_closed": count // 2,
        "cancelled": count // 4,
        "left": count // 4,
    }
    gc.collect()
    assert open_files() == before


class Crowd:
    """Many streams of one client, each read by a task of its own."""

    def __init__(self, url: str, count: int, tasks: Callable[[], int]) -> None:
        self._url = url
        self._count = count
        self._tasks = tasks
        self._connected = 0
        self._all_open = anyio.Event()
        self._leave = anyio.Event()
        self._endings: Counter[str] = Counter()

    async def run(self, make_transport: Callable[[], AsyncTransport]) -> Counter[str]:
        """How many streams ended in which way."""
        tasks = self._tasks()
        client = AsyncFlowMaestroClient(
            KEY, base_url=self._url, transport=make_transport(), timeout=PATIENCE
        )
        async with client:
            with anyio.fail_after(PATIENCE * 4):
                await self._gather(client)
                await self._expect(client, 0)
        with anyio.fail_after(PATIENCE):
            while self._tasks() != tasks:  # noqa: ASYNC110 - a loop tells nobody when a task ends
                await anyio.sleep(PAUSE)
        return self._endings

    async def _gather(self, client: AsyncFlowMaestroClient) -> None:
        streams = [client.executions.stream(f"exec-{number}") for number in range(self._count // 2)]
        async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
            for stream in streams:
                group.start_soon(self._until_closed, stream)
            for number in range(self._count // 4):
                group.start_soon(self._until_left, client, f"left-{number}")
                cancelled.start_soon(self._until_cancelled, client, f"cancelled-{number}")
            await self._all_open.wait()
            await self._expect(client, self._connected)
            await anyio.sleep(QUIET)
            await self._expect(client, self._connected)
            assert not self._endings
            self._leave.set()
            for stream in streams:
                await stream.close()
            cancelled.cancel_scope.cancel()

    async def _until_closed(self, stream: Any) -> None:
        try:
            async for event in stream:
                self._saw(event)
        except StreamError as error:
            self._endings[error.code] += 1

    async def _until_cancelled(self, client: AsyncFlowMaestroClient, name: str) -> None:
        try:
            async for event in client.executions.stream(name):
                self._saw(event)
        except anyio.get_cancelled_exc_class():
            self._endings["cancelled"] += 1
            raise

    async def _until_left(self, client: AsyncFlowMaestroClient, name: str) -> None:
        async for event in client.executions.stream(name):
            self._saw(event)
            await self._leave.wait()
            break
        self._endings["left"] += 1

    def _saw(self, event: Any) -> None:
        assert event["type"] == "connected"
        self._connected += 1
        if self._connected == self._count:
            self._all_open.set()

    async def _expect(self, client: AsyncFlowMaestroClient, count: int) -> None:
        with anyio.fail_after(PATIENCE):
            while await self._open(client) != count:  # noqa: ASYNC110 - nor does the server
                await anyio.sleep(PAUSE)

    async def _open(self, client: AsyncFlowMaestroClient) -> int:
        reply = await client.request("GET", "/open")
        return int(reply["data"]["open"])


def test_a_hundred_threads(quiet_url: str) -> None:
    gc.collect()
    descriptors, threads_before = open_files(), set(threading.enumerate())
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

    with FlowMaestroClient(KEY, base_url=quiet_url) as client:
        streams = [client.executions.stream(f"exec-{number}") for number in range(THREADS)]
        threads = [
            threading.Thread(target=read, args=(stream, number % 2 == 0))
            for number, stream in enumerate(streams)
        ]
        for thread in threads:
            thread.start()
        all_open.wait()
        assert client.request("GET", "/open")["data"] == {"open": THREADS}
        leave.set()
        for stream in streams[1::2]:
            stream.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert endings == {"left": THREADS // 2, "stream_closed": THREADS // 2}
        del thread, threads, stream, streams
        gc.collect()
        deadline = time.monotonic() + PATIENCE
        while client.request("GET", "/open")["data"] != {"open": 0}:
            assert time.monotonic() < deadline
    assert open_files() == descriptors
    assert set(threading.enumerate()) <= threads_before
