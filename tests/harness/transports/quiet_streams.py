"""Streams that a server keeps open and silent, and whether it has seen who left them."""

from __future__ import annotations

import time

import anyio.to_thread
import pytest

from flowmaestro import StreamError
from flowmaestro.testing.fake.model import seeds

PROMPT = 30.0
"""Seconds within which a reader must have been woken, and the server have seen a hang-up."""

BACKENDS = ["asyncio", "trio"]


def released(fake):
    """Whether the server has seen every reader hang up."""
    end = time.monotonic() + PROMPT
    while fake.open_streams and time.monotonic() < end:
        time.sleep(0.005)
    return not fake.open_streams


async def released_meanwhile(fake):
    return await anyio.to_thread.run_sync(released, fake)


def quiet_stream(client):
    """A stream that says how it waits for a human, and then nothing more."""
    run = client.workflows.execute(seeds.PAUSING_WORKFLOW_ID)
    return client.executions.stream(run["data"]["execution_id"])


async def quiet_async_stream(client):
    run = await client.workflows.execute(seeds.PAUSING_WORKFLOW_ID)
    return client.executions.stream(run["data"]["execution_id"])


def refuses(code="stream_closed"):
    return pytest.raises(StreamError, match=rf"\[{code}\]")


def is_paused(event):
    """Whether it says that the human is awaited, be it because the subscription came later."""
    came_later = event["type"] == "connected" and event["status"] == "paused"
    return event["type"] == "execution:paused" or came_later


def read_until_paused(stream):
    for event in stream:
        if is_paused(event):
            return


async def read_until_paused_async(stream):
    async for event in stream:
        if is_paused(event):
            return
