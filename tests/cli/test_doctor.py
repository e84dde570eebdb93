"""`doctor`: what is wrong, and what to do."""

from __future__ import annotations

import json
import time

import pytest

from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro.testing.conformance.scripted_server import ScriptedServer, answering, reply
from flowmaestro.testing.model.seeds import READ_ONLY_KEY


def doctor(flowmaestro, url, key, *more):
    return flowmaestro.run("doctor", "--base-url", url, "--api-key", key, *more)


def test_all_is_well(flowmaestro):
    fake = FakeFlowMaestro(epoch=time.time())
    with running_server(fake) as url:
        done = doctor(flowmaestro, url, fake.api_key)
        listed = json.loads(doctor(flowmaestro, url, fake.api_key, "--json").stdout)
    assert (done.returncode, done.stderr) == (0, "")
    checks = [line.split()[1] for line in done.stdout.splitlines()]
    assert checks == ["server", "proxy", "key", "connection", "clock", "rate", "scopes"]
    assert [finding["good"] for finding in listed] == [True] * 7
    assert fake.api_key not in done.stdout


def test_a_key_without_scopes_is_no_failure_and_they_are_named(flowmaestro):
    fake = FakeFlowMaestro(epoch=time.time())
    key = fake.add_key("fm_live_few", scopes=["workflows:read", "agents:read"])
    with running_server(fake) as url:
        done = doctor(flowmaestro, url, key)
    assert done.returncode == 0
    assert "the key lacks executions:read, triggers:read" in done.stdout
    assert READ_ONLY_KEY not in done.stdout


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [
        ("fm_live_wrong", 4, "Check the key for typing errors, or make a new one."),
        ("fm_test_wrong", 4, "The server refuses test keys today; make a live key."),
    ],
)
def test_a_refused_key(flowmaestro, key, status, said):
    with running_server(FakeFlowMaestro()) as url:
        done = doctor(flowmaestro, url, key)
    assert done.returncode == status
    assert said in done.stdout


def test_a_server_that_is_no_flowmaestro(flowmaestro):
    with ScriptedServer(answering(reply(b"<html>Welcome to our hotel</html>"))) as server:
        done = doctor(flowmaestro, server.url, "fm_live_any")
    assert done.returncode == 1
    assert "Is this the base URL of a FlowMaestro server?" in done.stdout


def test_a_clock_that_is_wrong(flowmaestro):
    fake = FakeFlowMaestro(epoch=1_000_000_000)  # the server stands in 2001
    with running_server(fake) as url:
        done = doctor(flowmaestro, url, fake.api_key)
    assert done.returncode == 1
    assert "this machine's clock is" in done.stdout
    assert "s ahead" in done.stdout
