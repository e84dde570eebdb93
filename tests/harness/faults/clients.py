"""Use a transport many times at once, on threads or on its event loop, and follow streams so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Callable, Coroutine, List, Sequence

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing.conformance.runner import run_to_its_end
from tests.harness.faults.cells import Cell, Seen
from tests.harness.runners import RUNNERS, Runner
from tests.harness.testing.one_face import Awaited

AT_ONCE = 80
HUNG = 60.0
"""Seconds after which a stream of the fault matrix counts as hung."""

KEY = "fm_live_faults"


def client_over(runner: Runner, transport: Any, **options: Any) -> Any:
    """A client that is awaited, whatever the transport."""
    if runner.backend is None:
        return Awaited(FlowMaestroClient(transport=transport, **options))
    return AsyncFlowMaestroClient(transport=transport, **options)


def all_at_once(
    runner: Runner,
    use: Callable[[Any, Any], Coroutine[Any, Any, Any]],
    items: Sequence[Any],
    at_once: int,
    hung: float,
) -> List[Any]:
    """What `use(transport, item)` comes to for each item, over one transport.

    Where it takes `hung` seconds, that is a `TimeoutError`; on threads, one is raised.
    """
    if runner.backend is None:
        # A transport that is closed wakes the threads.
        with ThreadPoolExecutor(at_once) as threads, closing(runner.make()) as shared:

            def run(item: Any) -> Any:
                return run_to_its_end(use(shared, item))

            return list(threads.map(run, items, timeout=hung + len(items)))

    outcomes: List[Any] = [TimeoutError("no end") for _ in items]

    async def main() -> None:
        limiter = anyio.CapacityLimiter(at_once)
        transport = runner.make()

        async def run_one(number: int, item: Any) -> None:
            async with limiter:
                with anyio.move_on_after(hung):
                    outcomes[number] = await use(transport, item)

        async with anyio.create_task_group() as group:
            for number, item in enumerate(items):
                group.start_soon(run_one, number, item)
        await transport.close()

    anyio.run(main, backend=runner.backend)
    return outcomes


def follow_all(transport: str, url: str, cells: Sequence[Cell]) -> List[Seen]:
    """What the caller of each cell gets."""
    runner = RUNNERS[transport]

    async def follow(shared: Any, cell: Cell) -> Seen:
        seen = Seen()
        # A client for each cell, so that no cell spends the retry budget of another.
        options = {"base_url": url, "timeout": 5.0, "stream_times": cell.times}
        client = client_over(runner, shared, api_key=KEY, **options)
        try:
            async for event in client.executions.stream(cell.execution_id):
                seen.events.append({**event})
        except Exception as error:
            seen.error = error
        return seen

    outcomes = all_at_once(runner, follow, cells, AT_ONCE, HUNG)
    return [one if isinstance(one, Seen) else Seen(error=one) for one in outcomes]
