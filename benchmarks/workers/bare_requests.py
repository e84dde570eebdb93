"""requests as anyone would use it."""

import json

import requests
from protocol import HEADERS, INPUTS, URL, serve

session = requests.Session()
session.headers.update(HEADERS)


def call(count):
    for _ in range(count):
        json.loads(session.get(f"{URL}/api/v1/workflows/wf_1").content)


def list_page(count):
    for _ in range(count):
        query = {"page": 1, "per_page": 4}
        json.loads(session.get(f"{URL}/api/v1/workflows", params=query).content)


def execute(count):
    for _ in range(count):
        url = f"{URL}/api/v1/workflows/wf_1/execute"
        json.loads(session.post(url, json={"inputs": INPUTS}).content)


serve(call=call, list_page=list_page, execute=execute)
