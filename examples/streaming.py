"""Follow two runs at the same time, event by event, and draw a timeline of one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from service import WORKFLOW, service

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.timeline import timeline_svg


async def follow(client: AsyncFlowMaestroClient, name: str) -> str:
    """Start a run, print its events as they come, and return its timeline."""
    started = await client.workflows.execute(WORKFLOW, inputs={"name": name})
    events = []
    async with client.executions.stream(started["data"]["execution_id"]) as stream:
        async for event in stream:
            events.append(event)
            if event["type"] == "node:completed":
                print(f"{name}: {event['node_id']} is done")
            elif event["type"] == "execution:completed":
                print(f"{name}: {event['outputs']}")
    return timeline_svg(events)


async def main() -> None:
    """Follow both, and write the timeline of the first to a file."""
    async with AsyncFlowMaestroClient() as client:
        timelines = await asyncio.gather(follow(client, "Ada"), follow(client, "Bob"))
    picture = Path(tempfile.mkdtemp()) / "timeline.svg"
    picture.write_text(timelines[0], encoding="utf-8")
    print(f"timeline: {picture}")


if __name__ == "__main__":
    with service():
        asyncio.run(main())
