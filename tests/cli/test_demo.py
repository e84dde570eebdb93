"""The demonstration, over every transport, in a pipe."""

from __future__ import annotations

import re
import sys
from itertools import product

import pytest

TRANSPORTS = ["sockets", "requests", "aiohttp", "anyio", "trio"]
DIALECTS = list(product(["deployed", "documented"], ["live", "silent"]))
STEPS = [
    "* List workflows  workflows.list",
    "* Execute one, follow its events  workflows.execute, executions.stream",
    "* Talk to an agent  agents.create_thread, threads.send_message_stream",
    "* Query a knowledge base  knowledge_bases.query",
    "* Fire a trigger, verify the webhook  triggers.execute, webhooks.parse",
    "* See a run fail, and a call  workflows.run",
]


def check_tour(output, *, shapes="deployed", events="live"):
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("*")] == STEPS
    assert "\x1b" not in output
    assert "\r" not in output
    assert not [line for line in lines if line != line.rstrip()]
    assert "  Welcome a customer  wf_abc123" in output
    assert '  + {"message": "Welcome, Ada Lovelace!", "sent_to": "ada@example.com"}' in lines
    assert re.search(r"^ +\d\.\d\d s  execution:completed$", output, re.MULTILINE)
    assert ("node:started          Write welcome" in output) == (events == "live")
    assert "  agent Once upon a time a small workflow" in output
    tokens = "44 tokens" if shapes == "documented" else "this server does not say how many tokens"
    assert f"  + answered; {tokens}" in lines
    assert re.search(r"^  0\.\d{3}  passwords\.md$", output, re.MULTILINE)
    assert '  + {"message": "Hello, Ada!"}' in lines
    assert "\n  + delivery verified: execution.completed, execution " in output
    assert "  - tampered body refused: " in output
    assert "  - failed: Service answered 503" in lines
    assert "  - NotFoundError: " in output
    assert lines[-1].startswith("All as it should be, in ")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_does_the_main_job_over_a_real_socket(flowmaestro, transport):
    done = flowmaestro.run("demo", "--transport", transport)
    assert (done.returncode, done.stderr) == (0, "")
    check_tour(done.stdout)
    assert f", over {transport}\nan embedded FlowMaestro on http://127.0.0.1:" in done.stdout


@pytest.mark.parametrize("transport", ["sockets", "aiohttp"])
def test_a_silent_server_of_the_other_dialect_takes_no_longer_than_it_may(flowmaestro, transport):
    done = flowmaestro.run(
        "demo", "--transport", transport, "--shapes", "documented", "--events", "silent"
    )
    assert (done.returncode, done.stderr) == (0, "")
    check_tour(done.stdout, shapes="documented", events="silent")


@pytest.mark.parametrize(("shapes", "events"), DIALECTS)
def test_in_memory_it_needs_no_socket(flowmaestro, shapes, events):
    done = flowmaestro.run("demo", "--transport", "memory", "--shapes", shapes, "--events", events)
    assert (done.returncode, done.stderr) == (0, "")
    check_tour(done.stdout, shapes=shapes, events=events)


def test_a_proxy_in_the_environment_is_not_asked_for_loopback(flowmaestro):
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = flowmaestro.run("demo", environment=proxy)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_the_encoding_lacks_is_replaced(flowmaestro):
    done = flowmaestro.run(
        "demo", "--transport", "memory", environment={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0


def check_failure(done, status=1):
    assert done.returncode == status
    assert done.stderr.startswith("flowmaestro demo: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_without_trio_the_way_to_get_it_is_named(flowmaestro):
    flowmaestro.command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['trio'] = None\n"
        "from flowmaestro.__main__ import main; sys.exit(main())",
    ]
    done = flowmaestro.run("demo", "--transport", "trio")
    assert check_failure(done) == (
        "flowmaestro demo: the transport trio needs trio: pip install 'flowmaestro[trio]'\n"
    )
