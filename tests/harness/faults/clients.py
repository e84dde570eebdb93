"""Follow the streams of many cells at once, on each transport."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Callable, Dict, List, Sequence

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro_transports.contract import AsyncTransport, Transport
from tests.harness.faults.cells import Cell, Seen
from tests.harness.runners import RUNNERS

AT_ONCE = 80
HUNG = 60.0
"""Seconds after which a stream counts as hung."""

KEY = "fm_live_faults"


def follow_all(transport: str, url: str, cells: Sequence[Cell]) -> List[Seen]:
    """What the caller of each cell gets."""
    runner = RUNNERS[transport]
    if runner.backend is None:
        return _follow_in_threads(runner.make, url, cells)
    return anyio.run(_follow_in_tasks, runner.make, url, cells, backend=runner.backend)


def _options(url: str, cell: Cell) -> Dict[str, Any]:
    """Of a client for each cell, so that no cell spends the retry budget of another."""
    return {"api_key": KEY, "base_url": url, "timeout": 5.0, "stream_times": cell.times}


def _follow_in_threads(
    make_transport: Callable[[], Transport], url: str, cells: Sequence[Cell]
) -> List[Seen]:
    with closing(make_transport()) as transport:

        def follow(cell: Cell) -> Seen:
            seen = Seen()
            client = FlowMaestroClient(transport=transport, **_options(url, cell))
            try:
                for event in client.executions.stream(cell.execution_id):
                    seen.events.append({**event})
            except Exception as error:
                seen.error = error
            return seen

        with ThreadPoolExecutor(AT_ONCE) as threads:
            futures = [threads.submit(follow, cell) for cell in cells]
            try:
                return [future.result(HUNG) for future in futures]
            except TimeoutError:
                transport.close()
                raise


async def _follow_in_tasks(
    make_transport: Callable[[], AsyncTransport], url: str, cells: Sequence[Cell]
) -> List[Seen]:
    outcomes = [Seen() for _ in cells]
    limiter = anyio.CapacityLimiter(AT_ONCE)
    transport = make_transport()

    async def follow(cell: Cell, seen: Seen) -> None:
        async with limiter:
            client = AsyncFlowMaestroClient(transport=transport, **_options(url, cell))
            try:
                with anyio.fail_after(HUNG):
                    async for event in client.executions.stream(cell.execution_id):
                        seen.events.append({**event})
            except Exception as error:
                seen.error = error

    async with anyio.create_task_group() as group:
        for cell, seen in zip(cells, outcomes):
            group.start_soon(follow, cell, seen)
    await transport.close()
    return outcomes
