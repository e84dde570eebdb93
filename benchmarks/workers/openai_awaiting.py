"""The openai SDK under asyncio."""

import asyncio

import openai
from protocol import INPUTS, KEY, URL, serve_awaiting


async def main():
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{URL}/api/v1") as client:

        async def call(count):
            for _ in range(count):
                await client.get("/workflows/wf_1", cast_to=object)

        async def list_page(count):
            for _ in range(count):
                query = {"params": {"page": 1, "per_page": 4}}
                await client.get("/workflows", cast_to=object, options=query)

        async def execute(count):
            for _ in range(count):
                body = {"inputs": INPUTS}
                await client.post("/workflows/wf_1/execute", cast_to=object, body=body)

        await serve_awaiting(call=call, list_page=list_page, execute=execute)


asyncio.run(main())
