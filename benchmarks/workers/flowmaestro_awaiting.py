"""The awaiting FlowMaestro client: ours on the transport of the argument, or the peer's."""

import asyncio
import gc
import time
import tracemalloc

import anyio
from protocol import (
    ARGUMENTS,
    INPUTS,
    KEY,
    RUNS_MS,
    URL,
    Holding,
    Measurement,
    late_ms,
    serve_awaiting,
)

import flowmaestro

TRANSPORT, BACKEND = ARGUMENTS


def new_client(url=URL, limit=100, **options):
    if TRANSPORT:
        import flowmaestro_transports

        make = getattr(flowmaestro_transports, TRANSPORT)
        limited = TRANSPORT != "AiohttpTransport"  # which has no limit
        options["transport"] = make(max_connections=limit) if limited else make()
    return flowmaestro.AsyncFlowMaestroClient(api_key=KEY, base_url=url, **options)


async def call(count):
    for _ in range(count):
        await client.workflows.get("wf_1")


async def list_page(count):
    for _ in range(count):
        await client.workflows.list(page=1, per_page=4)


async def execute(count):
    for _ in range(count):
        await client.workflows.execute("wf_1", inputs=INPUTS)


async def together(width, work, *arguments):
    """So many at once, by the means of the bare row that it is compared with."""
    if TRANSPORT != "AnyioTransport":
        await asyncio.gather(*(work(*arguments) for _ in range(width)))
        return
    async with anyio.create_task_group() as group:
        for _ in range(width):
            group.start_soon(work, *arguments)


async def in_flight(count, width):
    await together(width, call, count // width)


async def events(count, kind="events"):
    async for event in client.executions.stream(f"{kind}-{count}"):
        if event["type"] == "execution:completed":
            break


async def long_streams(count, times):
    """Streams of `count` events on a warm client, less their opening: that of streams of one."""
    with Measurement() as streams:
        for _ in range(times):
            await events(count)
    with Measurement() as opening:
        for _ in range(times):
            await events(1)
    return streams.less(opening).of_one((count - 1) * times)


async def pages(count, times):
    """Walk through `count` pages, with a client that has its connection."""
    async with new_client(f"{URL}/pages-{count}") as one:
        await one.workflows.list(per_page=4)
        with Measurement() as walks:
            for _ in range(times):
                async for _ in one.workflows.iterate(per_page=4):
                    pass
    return walks.of_one(count * times)


async def make(count, trace=False):
    """Time the first call of each new client, less a second; each has its own connection."""
    clients = [await new_and_used()]
    if trace:
        tracemalloc.start()
    started = time.process_time_ns()
    clients += [await new_and_used() for _ in range(count)]
    first = time.process_time_ns() - started
    for one in clients[1:]:
        await one.workflows.get("wf_1")
    again = time.process_time_ns() - started - first
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / count / 1024 if trace else 0
    tracemalloc.stop()
    for one in clients:
        await one.close()
    return {"held_kb": held} if trace else {"cpu_us": (first - again) / count / 1000}


async def new_and_used():
    made = new_client(f"{URL}/closing")
    await made.workflows.get("wf_1")
    return made


async def idle(count):
    streams = []

    async def open_one():
        stream = client.executions.stream("idle")
        streams.append(stream)
        await stream.__anext__()

    await open_one()  # what is loaded with the first stream is not the cost of any
    with Holding() as held:
        await together(count, open_one)
    for stream in streams:
        await (stream.close() if TRANSPORT else stream.aclose())
    return held.of_one(count)


async def overshoot(count):
    late = []
    for number in range(count):
        workflow = f"run-{RUNS_MS[number % len(RUNS_MS)]}"
        if TRANSPORT:
            ended = await client.workflows.run(workflow, inputs=INPUTS)
        else:
            started = await client.workflows.execute(workflow, inputs=INPUTS)
            ended = await client.executions.wait_for_completion(started["data"]["execution_id"])
        late.append(late_ms(ended["outputs"]))
    return {"late_ms": max(late)}


async def main():
    global client
    client = new_client(limit=512)
    await serve_awaiting(
        call=call,
        list_page=list_page,
        execute=execute,
        in_flight=in_flight,
        events=events,
        long_streams=long_streams,
        pages=pages,
        make=make,
        idle=idle,
        overshoot=overshoot,
    )
    await client.close()


anyio.run(main, backend=BACKEND)
