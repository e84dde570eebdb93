"""What arrived in time is delivered, although the process was stopped until after the deadline."""

from __future__ import annotations

import contextlib
import gzip
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.harness.patience import given_time
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


def heard(runner: Runner, scripted: Any, limit: float) -> str:
    """Return what a client prints that is stopped until its time limit is over."""
    asked, may_answer, sent = threading.Event(), threading.Event(), threading.Event()
    compressed = scripted.reply(gzip.compress(BODY), headers=[("Content-Encoding", "gzip")])

    def answer(peer: Any, data: bytes) -> None:
        time.sleep(0.2)  # Until the client waits: nothing shows it.
        asked.set()
        may_answer.wait(60)
        may_answer.clear()
        peer.send(data)
        sent.set()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply())
        with contextlib.suppress(OSError):  # The client was too slow.
            peer.read_request()
            answer(peer, compressed)
            if peer.read_request() is not None:
                peer.send(scripted.HEAD_CHUNKED)
                answer(peer, scripted.chunk(b"came in time"))
                peer.wait_closed()

    with scripted.ScriptedServer(handler) as server:
        command = [sys.executable, "-c", CHILD, runner.name, server.url, str(limit)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                for _ in range(2):
                    while not asked.wait(0.1) and child.poll() is None:
                        pass
                    asked.clear()
                    child.send_signal(signal.SIGSTOP)
                    may_answer.set()
                    time.sleep(limit + 0.2)  # The clock of another process cannot be virtual.
                    if child.poll() is not None or not sent.wait(60):
                        break
                    sent.clear()
                    child.send_signal(signal.SIGCONT)
            finally:
                child.send_signal(signal.SIGCONT)
            said, _ = child.communicate(timeout=60)
    return said


def test_bytes_that_arrived_before_the_deadline_are_delivered(
    runner: Runner, scripted: Any
) -> None:
    def attempt(times: float) -> None:  # The client's time may be over before it is stopped.
        said = heard(runner, scripted, LIMIT * times)
        assert said == f"200 {len(BODY)}\nb'came in time'\n"

    given_time(attempt)
