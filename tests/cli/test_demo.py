"""The demonstration, over every transport and in memory; `nox -s demo` runs it as users do."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from functools import partial
from itertools import product

import pytest

from flowmaestro.cli import demo
from flowmaestro.testing import running_server

TRANSPORTS = ["sockets", "requests", "aiohttp", "anyio", "trio"]
DIALECTS = list(product(["deployed", "documented"], ["live", "silent"]))
STEPS = [
    "▸ List workflows  workflows.list",
    "▸ Execute one, follow its events  workflows.execute, executions.stream",
    "▸ Talk to an agent  agents.create_thread, threads.send_message_stream",
    "▸ Query a knowledge base  knowledge_bases.query",
    "▸ Fire a trigger, verify the webhook  triggers.execute, webhooks.parse",
    "▸ See a run fail, and a call  workflows.run",
    "▸ What next",
]

FAILED = "Workflow completed with 1 failed nodes:"


@pytest.fixture(autouse=True)
def _no_proxy_is_restored(monkeypatch):
    monkeypatch.setenv("no_proxy", "")


@pytest.fixture
def fast(monkeypatch):
    """The server lives five seconds in each second; a proxy is in the environment."""
    monkeypatch.setattr(demo, "running_server", partial(running_server, speed=5))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")


def check_story(output, *, shapes="deployed", events=None):
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("▸")] == STEPS
    assert "\x1b" not in output
    assert "\r" not in output
    assert not [line for line in lines if line != line.rstrip()]
    assert re.search(r"^  Welcome a customer +wf_abc123$", output, re.MULTILINE)
    assert '  ✓ {"message": "Welcome, Ada Lovelace!", "sent_to": "ada@example.com"}' in lines
    assert re.search(r"^ +\d\.\d\d s  execution:completed$", output, re.MULTILINE)
    if events is not None:  # A node may start before a stream over a socket is open.
        assert ("node:started          Write welcome" in output) == (events == "live")
    assert "  agent Once upon a time a small workflow" in output
    tokens = "44 tokens" if shapes == "documented" else "this server does not say how many tokens"
    assert f"  ✓ answered; {tokens}" in lines
    assert re.search(r"^  0\.\d{3}  passwords\.md\n {9}\w", output, re.MULTILINE)
    assert '  ✓ {"message": "Hello, Ada!"}' in lines
    assert "\n  ✓ delivery verified: execution.completed, execution " in output
    assert "  ✗ tampered body refused: " in output
    why = "Service answered 503" if shapes == "documented" else "Activity task failed"
    assert f'  ✗ failed: {FAILED} {{"call":"{why}"}}' in lines
    assert "  ✗ NotFoundError: " in output
    assert any(line.startswith("Everything worked, in ") for line in lines)
    assert lines[-1] == '      print(it["name"])'
    script = lines[lines.index("  import flowmaestro as fm") :]
    assert max(map(len, script)) <= 40, "it is copied from narrow terminals, too"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_demo_runs_over_a_real_socket_without_the_proxy(fast, here, transport):
    done = here("demo", "--transport", transport)
    assert (done.status, done.err) == (0, "")
    check_story(done.out)
    assert f", over {transport}\na fake FlowMaestro on http://127.0.0.1:" in done.out


@pytest.mark.parametrize(("shapes", "events"), DIALECTS)
def test_the_demo_in_memory_opens_no_socket(here, shapes, events):
    done = here("demo", "--transport", "memory", "--shapes", shapes, "--events", events)
    assert (done.status, done.err) == (0, "")
    check_story(done.out, shapes=shapes, events=events)


def test_without_trio_the_way_to_get_it_is_named(fast, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "trio", None)
    done = here("demo", "--transport", "trio")
    assert (done.status, done.err) == (
        1,
        "flowmaestro demo: the transport trio needs trio: pip install 'flowmaestro[trio]'\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to this process")
@pytest.mark.parametrize("transport", ["sockets", "trio"])
def test_ctrl_c_ends_the_demo_silently(here, monkeypatch, transport):
    shown = demo.Narrator.event
    soon = [threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))]

    def interrupt_soon(self, event):
        shown(self, event)
        if event["type"] == "node:started" and soon:  # for 0.4 s nothing more will come
            soon.pop().start()

    monkeypatch.setattr(demo.Narrator, "event", interrupt_soon)
    done = here("demo", "--transport", transport)
    assert (done.status, done.err) == (130, "")
