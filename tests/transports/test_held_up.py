"""What arrived in time is delivered, although the process was stopped until after the deadline."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.harness.runners import Runner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process")

LIMIT = 0.7
"""Seconds of the attempt, and of the read."""
BODY = b"x" * 1_000_000
"""Takes many steps: it is decompressed in pieces."""

CHILD = """
import sys
from flowmaestro_core.http.messages import Headers, Request
from tests.harness.runners import RUNNERS

name, url, limit = sys.argv[1:]
request = Request("POST", url, Headers(), b"{}")
with RUNNERS[name]() as transport:
    transport.send(request)  # This imports what a call needs.
    response = transport.send(request, float(limit))
    print(response.status, len(response.body))
    body = transport.open(request)
    print(body.read(float(limit)))
"""


def test_bytes_that_arrived_before_the_deadline_are_delivered(
    runner: Runner, scripted: Any
) -> None:
    asked, may_answer, sent = threading.Event(), threading.Event(), threading.Event()
    compressed = scripted.reply(gzip.compress(BODY), headers=[("Content-Encoding", "gzip")])

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply())
        peer.read_request()
        time.sleep(0.2)  # Until the client waits: nothing shows it.
        asked.set()
        may_answer.wait(60)
        may_answer.clear()
        peer.send(compressed)
        sent.set()
        peer.read_request()
        peer.send(scripted.HEAD_CHUNKED)
        time.sleep(0.2)
        asked.set()
        may_answer.wait(60)
        peer.send(scripted.chunk(b"came in time"))
        sent.set()
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server:
        command = [sys.executable, "-c", CHILD, runner.name, server.url, str(LIMIT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                for _ in range(2):
                    assert asked.wait(60)
                    asked.clear()
                    os.kill(child.pid, signal.SIGSTOP)
                    may_answer.set()
                    time.sleep(LIMIT + 0.2)  # The clock of another process cannot be virtual.
                    assert sent.wait(60)
                    sent.clear()
                    os.kill(child.pid, signal.SIGCONT)
            finally:
                os.kill(child.pid, signal.SIGCONT)
            said, _ = child.communicate(timeout=60)
    assert said == f"200 {len(BODY)}\nb'came in time'\n"
