"""Runs the fetch-shaped example in a real Pyodide, under Node, against servers of this process.

    python -m tests.harness.transports.pyodide_outside NODE_MODULES SITE

`NODE_MODULES` holds the npm package `pyodide`; `SITE` is a folder with this package and what it
imports there, installed with `pip install --target`. Exits with 1 if anything failed in there, or
if a connection was left open.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ScriptedServer,
    chunk,
    reply,
)

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "transports" / "examples"
PATIENCE = 120.0
"""Seconds for all of it."""
SPEED = 20.0
"""The fake's seconds in a second."""

HEAD = reply(headers=[CHUNKED], length=False)


def odd(peer: Peer) -> None:
    """Answers as the path says."""
    while (request := peer.read_request()) is not None:
        path = request.target.split("/")[1]
        if path == "echo":
            packed = gzip.compress(request.body)
            peer.send(reply(packed, headers=[("Content-Encoding", "gzip")]))
        elif path == "quiet":
            peer.send(HEAD + b"5\r\nhe")
            time.sleep(0.5)
            peer.send(b"llo\r\n" + chunk(b""))
        elif path == "cut":
            peer.send(HEAD + chunk(b"hello"))
            return
        elif path == "silent":
            peer.wait_closed()
            return
        elif path == "silent-body":
            peer.send(HEAD)
            peer.wait_closed()
            return
        elif path == "dribble":
            peer.send(HEAD)
            while not peer.has_hung_up():
                peer.send(chunk(b"x"))
                time.sleep(0.05)
            return


def main(node_modules: str, site: str) -> int:
    """The exit code."""
    fake = FakeFlowMaestro()
    # It takes 10 s, so that its stream is open before it ends, however busy the machine is.
    nodes = [Node("greet", seconds=10 * SPEED)]
    fake.workflow(
        "wf_slow", nodes=nodes, outputs=lambda inputs: {"message": f"Hello, {inputs['name']}!"}
    )
    module = Path(node_modules) / "pyodide" / "pyodide.mjs"
    file = HERE / "pyodide_inside.py"
    with running_server(fake, speed=SPEED) as url, ScriptedServer(odd) as server:
        places = (str(EXAMPLES), site)
        command = ["node", str(HERE / "pyodide_node.mjs"), str(module), str(file), url, server.url]
        environment = {**os.environ, "FLOWMAESTRO_API_KEY": fake.api_key}
        ended = subprocess.run([*command, *places], env=environment, timeout=PATIENCE)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
