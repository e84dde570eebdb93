"""What scenarios are made of: how one is written down, and what several of them begin with."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import Node
from flowmaestro.testing.fake.model import seeds

CASES: List[Any] = []
"""Every scenario, with each value that its parameters may have."""


def scenario(**axes):
    """Register a function as scenarios in which each parameter has each of its values once.

    The shorter lists of values begin again. All combinations found no more mutants, in two and a
    half times the time.
    """

    def register(act):
        for number in range(max(map(len, axes.values()))):
            values = [list(axis)[number % len(axis)] for axis in axes.values()]
            name = "-".join([act.__name__, *(str(value) for value in values)])
            CASES.append(pytest.param(act, dict(zip(axes, values)), id=name.replace("_", "-")))
        return act

    return register


async def everything(iterator):
    return [item async for item in iterator]


def method(client, call):
    """The method that is called so, such as `workflows.get`."""
    resource, _, name = call.partition(".")
    return getattr(getattr(client, resource), name)


IDS = {
    "workflows": "wf_123",
    "executions": "exec_xyz789",
    "triggers": seeds.ENABLED_TRIGGER_ID,
    "webhooks": "wh_abc123",
}


async def one_call(client, call):
    """A call about something that the fake came with."""
    if call == "threads.send_message":
        return await client.threads.send_message("thread_xyz789", "Hi")
    return await method(client, call)(IDS[call.partition(".")[0]])


def a_workflow(fake, end, seconds=2.0):
    """A workflow of two nodes that takes `seconds` and ends like that, unless it is cancelled."""

    def outputs(inputs):
        if end == "raises":
            raise KeyError("rate")
        return {"doubled": 2 * inputs["n"]}

    nodes = [Node("fetch", seconds=seconds / 2), Node("write", seconds=seconds / 2)]
    ending = {"fails_at": "write", "error": "Broke"} if end == "failed" else {"outputs": outputs}
    return fake.workflow("wf_mine", nodes=nodes, **ending)


def cancel_later(fake, seconds):
    """Have somebody else cancel what runs then."""

    def cancel():
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        client.executions.cancel(fake.executions[-1].id)

    fake.clock.call_later(seconds, cancel)


def check_end(execution, end):
    """The execution says how it ended, whatever it is asked by."""
    assert execution["status"] == ("failed" if end == "raises" else end)
    assert execution["outputs"] == ({"doubled": 42} if end == "completed" else None)
    if end == "failed":  # The deployed server loses the text of the node.
        texts = [f'{{"write":"{it}"}}' for it in ("Broke", "Activity task failed")]
        assert execution["error"] in [
            f"Workflow completed with 1 failed nodes: {it}" for it in texts
        ]
    else:
        assert execution["error"] == ("KeyError: 'rate'" if end == "raises" else None)


def statuses(fake, path=None):
    return [request.status for request in fake.requests if path in (None, request.path)]
