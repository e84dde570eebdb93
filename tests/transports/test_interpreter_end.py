"""Transports that outlive their modules when the interpreter ends."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import os
import sys

import anyio

import flowmaestro
import flowmaestro_transports
from flowmaestro_core.http.messages import Headers, Request

request = Request("GET", sys.argv[1], Headers())
transport = getattr(flowmaestro_transports, sys.argv[2])()
if sys.argv[2] == "SocketTransport":
    body = transport.open(request, 60)
    transport.send(request, 60)
    stream = flowmaestro.FlowMaestroClient("fm_live_x", transport=transport).workflows.iterate()
else:
    async def main():
        global body, stream
        body = await transport.open(request, 60)
        await transport.send(request, 60)
        client = flowmaestro.AsyncFlowMaestroClient("fm_live_x", transport=transport)
        stream = client.workflows.iterate()

    anyio.run(main)
# The modules are kept, as a free-threaded Python keeps them. The interpreter then sets their names
# to None, the last module that was imported first: `os`, and what it holds, comes after ours.
os.kept = [transport, body, stream]
sys.kept = dict(sys.modules)
del transport, body
"""


@pytest.mark.parametrize("kind", ["SocketTransport", "AnyioTransport"])
def test_transport_that_is_collected_after_its_modules_prints_nothing(
    scripted: Any, kind: str
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, server.url, kind],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    assert done.stderr == ""
