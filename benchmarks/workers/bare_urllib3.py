"""urllib3 as anyone would use it."""

import json
from urllib.parse import urlencode

import urllib3
from protocol import HEADERS, INPUTS, URL, serve

pool = urllib3.PoolManager(headers=HEADERS)


def call(count):
    for _ in range(count):
        json.loads(pool.request("GET", f"{URL}/api/v1/workflows/wf_1").data)


def list_page(count):
    for _ in range(count):
        query = urlencode({"page": 1, "per_page": 4})
        json.loads(pool.request("GET", f"{URL}/api/v1/workflows?{query}").data)


def execute(count):
    for _ in range(count):
        url = f"{URL}/api/v1/workflows/wf_1/execute"
        json.loads(pool.request("POST", url, json={"inputs": INPUTS}, headers=HEADERS).data)


serve(call=call, list_page=list_page, execute=execute)
