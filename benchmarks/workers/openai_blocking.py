"""The openai SDK, a widely used one of the same kind, by its generic calls."""

import openai
from protocol import INPUTS, KEY, URL, serve

client = openai.OpenAI(api_key=KEY, base_url=f"{URL}/api/v1")


def call(count):
    for _ in range(count):
        client.get("/workflows/wf_1", cast_to=object)


def list_page(count):
    for _ in range(count):
        query = {"params": {"page": 1, "per_page": 4}}
        client.get("/workflows", cast_to=object, options=query)


def execute(count):
    for _ in range(count):
        client.post("/workflows/wf_1/execute", cast_to=object, body={"inputs": INPUTS})


serve(call=call, list_page=list_page, execute=execute)
