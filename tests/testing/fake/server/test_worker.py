"""The process that computes for `serve`, so that its event loop answers meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest
from anyio.from_thread import start_blocking_portal

from flowmaestro.testing import FakeFlowMaestro, serve
from flowmaestro.testing.fake.server import exchanges, worker
from flowmaestro.testing.fake.server.exchanges import InspectedRequest
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.worker import SMALL_JOB, Worker
from flowmaestro.testing.redaction import redacted_text
from flowmaestro_core.http.messages import Headers, Request

LARGE = "x" * SMALL_JOB


@pytest.fixture
def compute():
    made = Worker()
    yield made
    made.close()


def process_of(compute):
    return compute(eval, f"__import__('os').getpid() #{LARGE}")


def test_large_job_is_computed_in_another_process(compute):
    one = process_of(compute)
    assert one != os.getpid()
    assert process_of(compute) == one
    assert compute(eval, "__import__('os').getpid()") == os.getpid(), "a small one is not worth it"


def test_its_exception_is_raised(compute):
    with pytest.raises(ZeroDivisionError):
        compute(eval, f"1 / 0 #{LARGE}")
    assert compute(len, LARGE) == SMALL_JOB


def test_a_job_that_cannot_be_pickled_is_computed_here(compute):
    assert compute(lambda text: (os.getpid(), len(text)), LARGE) == (os.getpid(), SMALL_JOB)


def test_without_its_process_a_job_is_computed_here(compute, monkeypatch):
    os.kill(process_of(compute), 9)
    assert process_of(compute) == os.getpid()
    assert process_of(compute) != os.getpid(), "there is another one"
    compute.close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert process_of(compute) == os.getpid()


def test_its_process_ends_with_its_standard_input():
    process = subprocess.Popen([sys.executable, worker.__file__], stdin=subprocess.PIPE)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_server_computes_in_a_process_of_its_own_until_it_ends():
    inspector = Inspector(FakeFlowMaestro())
    with start_blocking_portal() as portal:
        serving = partial(serve, inspector=inspector)
        server, _ = portal.start_task(serving, FakeFlowMaestro(), "127.0.0.1", 0)
        other = process_of(inspector.compute)
        assert other != os.getpid()
        server.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)


def test_all_that_the_inspector_redacts_can_be_pickled(compute):
    body = ('{"inputs": {"needle": "' + "x" * SMALL_JOB + '", "token": "s3"}}').encode()
    request = Request("POST", "http://localhost/api/v1/workflows/wf_123/execute", Headers(), body)
    assert compute(InspectedRequest(1, request, 0.0).details)["request_body"] == redacted_text(
        body.decode()
    )
    stored = exchanges.Exchanges()
    stored.add(request, 0.0)
    jobs = []
    found = stored.search("needle", lambda function, *args: jobs.append(args) or function(*args))
    assert found() == ([1], None)
    assert compute(exchanges._found_among, *jobs[0]) == [1]
