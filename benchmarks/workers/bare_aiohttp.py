"""aiohttp as anyone would use it, without a limit of connections."""

import asyncio
import json

import aiohttp
from protocol import HEADERS, INPUTS, URL, Holding, serve_awaiting


async def main():
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def call(count):
            for _ in range(count):
                async with session.get(f"{URL}/api/v1/workflows/wf_1") as response:
                    json.loads(await response.read())

        async def list_page(count):
            for _ in range(count):
                query = {"page": 1, "per_page": 4}
                async with session.get(f"{URL}/api/v1/workflows", params=query) as response:
                    json.loads(await response.read())

        async def execute(count):
            for _ in range(count):
                url = f"{URL}/api/v1/workflows/wf_1/execute"
                async with session.post(url, json={"inputs": INPUTS}) as response:
                    json.loads(await response.read())

        async def in_flight(count, width):
            await asyncio.gather(*(call(count // width) for _ in range(width)))

        async def idle(count):
            url = f"{URL}/api/v1/executions/idle/events"
            first = await session.get(url)
            await first.content.readany()
            with Holding() as held:
                streams = await asyncio.gather(*(session.get(url) for _ in range(count)))
                await asyncio.gather(*(stream.content.readany() for stream in streams))
            for stream in (first, *streams):
                stream.close()
            return held.of_one(count)

        await serve_awaiting(
            call=call, list_page=list_page, execute=execute, in_flight=in_flight, idle=idle
        )


asyncio.run(main())
