"""httpx or httpx2 under asyncio."""

import asyncio
import importlib
import json

from protocol import ARGUMENTS, HEADERS, INPUTS, URL, serve_awaiting

httpx = importlib.import_module(ARGUMENTS[0])


async def main():
    async with httpx.AsyncClient(base_url=URL, headers=HEADERS) as client:

        async def call(count):
            for _ in range(count):
                json.loads((await client.get("/api/v1/workflows/wf_1")).content)

        async def list_page(count):
            for _ in range(count):
                query = {"page": 1, "per_page": 4}
                json.loads((await client.get("/api/v1/workflows", params=query)).content)

        async def execute(count):
            for _ in range(count):
                url = "/api/v1/workflows/wf_1/execute"
                json.loads((await client.post(url, json={"inputs": INPUTS})).content)

        await serve_awaiting(call=call, list_page=list_page, execute=execute)


asyncio.run(main())
