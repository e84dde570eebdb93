"""httpx, which the peer stands on, or httpx2."""

import importlib
import json

from protocol import ARGUMENTS, HEADERS, INPUTS, URL, serve

httpx = importlib.import_module(ARGUMENTS[0])
client = httpx.Client(base_url=URL, headers=HEADERS)


def call(count):
    for _ in range(count):
        json.loads(client.get("/api/v1/workflows/wf_1").content)


def list_page(count):
    for _ in range(count):
        query = {"page": 1, "per_page": 4}
        json.loads(client.get("/api/v1/workflows", params=query).content)


def execute(count):
    for _ in range(count):
        url = "/api/v1/workflows/wf_1/execute"
        json.loads(client.post(url, json={"inputs": INPUTS}).content)


serve(call=call, list_page=list_page, execute=execute)
