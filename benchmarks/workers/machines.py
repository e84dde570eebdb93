"""The core driven by hand: what it costs, and how it waits, on a clock that only it moves."""

import json

from protocol import KEY, Measurement, serve

from flowmaestro_core.actions import Done, Send
from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.machines import machine_for
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.payloads.reply import decode_json
from flowmaestro_core.resources import Executions, Workflows

LATENCY = 0.02
"""Seconds that an answer takes, on the virtual clock of a wait."""
CONTEXT = Context(ClientOptions(api_key=KEY))
WORKFLOW = {"id": "wf_1", "name": "Order intake", "description": "x" * 900, "inputs": None}
BODY = json.dumps({"data": WORKFLOW, "meta": {"request_id": "req_1"}}).encode()
HEADERS = Headers([("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])


def call(count):
    """One call through the machine, less the time that the JSON of its reply takes by itself."""
    with Measurement() as machines:
        for _ in range(count):
            machine = machine_for(Workflows.get("wf_1"), CONTEXT, "token")
            machine.start(0.0, 0.5)
            action = machine.response_received(Response(200, HEADERS, BODY), 0.1, 0.5)
    assert isinstance(action, Done)
    with Measurement() as parsing:
        for _ in range(count):
            decode_json(BODY)
    return machines.less(parsing).of_one(count)


def wait(count, seconds):
    """Return how late the results of runs of at most `seconds` are: the worst of `count`."""
    waits = [waited(seconds * (1 - number / count / 4)) for number in range(count)]
    return {
        "late_ms": max(late for late, _, _ in waits) * 1000,
        "of_allowed": max(late / (min(0.4 * end, 1.0) + 0.05) for late, _, end in waits),
        "requests": max(requests for _, requests, _ in waits),
    }


def waited(end):
    now, requests = 0.0, 0
    machine = machine_for(Executions.wait_for_completion("exec_1"), CONTEXT, "token")
    action = machine.start(now, 0.5)
    while not isinstance(action, Done):
        if isinstance(action, Send):
            requests += 1
            status = "completed" if now + LATENCY / 2 >= end else "running"
            now += LATENCY
            body = json.dumps({"data": {"id": "exec_1", "status": status}}).encode()
            action = machine.response_received(Response(200, Headers(), body), now, 0.5)
        else:
            now += action.seconds
            action = machine.waited(now, 0.5)
    return now - end, requests, end


serve(call=call, wait=wait)
