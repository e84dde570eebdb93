"""The log `flowmaestro`: silent unless asked for, a line for each thing, and no secret in it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, FlowMaestroError, StreamTimes
from flowmaestro.testing import Quiet, ScriptedTransport
from flowmaestro_transports import Phase, Response, ResponseHead, TransportFailure

KEY = "fm_live_never_seen"
ROOT = "https://api.flowmaestro.io/api/v1"
FOUND = Response(200, {}, b'{"data": {}, "meta": {"request_id": "req_1"}}')
BUSY = Response(503, {"X-Request-ID": "req\n2"}, b'{"error": {"code": "bu\\nsy"}}')
LOST = TransportFailure(Phase.MAYBE_PROCESSED, "cut")


def slowly(reply):
    """The steps of a reply that takes half a second, as each attempt is to do."""
    if isinstance(reply, TransportFailure):
        return [Quiet(0.5), reply]
    return [Quiet(0.5), ResponseHead(reply.status, reply.headers), reply.body]


def asks(world, do=lambda client: client.workflows.get("wf_1"), **options):
    """What is logged while a client does it."""
    transport = ScriptedTransport([slowly(reply) for reply in world], strict=True)
    with FlowMaestroClient(KEY, transport=transport, **options) as client:
        return do(client)


@pytest.fixture(autouse=True)
def untouched():
    """The logger as it is in a program that has done nothing about it."""
    logger = logging.getLogger("flowmaestro")
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def test_the_log_is_silent_by_default(caplog, capfd):
    asks([BUSY, FOUND])
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_logger_without_handlers_prints_nothing(capfd, monkeypatch):
    logger = logging.getLogger("flowmaestro")
    monkeypatch.setattr(logging, "lastResort", None)
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.DEBUG)
    asks([BUSY, FOUND])
    assert capfd.readouterr() == ("", "")


def test_each_request_is_a_line_at_debug_and_each_retry_one_at_info(caplog):
    caplog.set_level(logging.DEBUG, logger="flowmaestro")
    asks([BUSY, LOST, FOUND])
    assert {record.name for record in caplog.records} == {"flowmaestro"}
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    pauses = [line.split(" s: ")[0] for _, line in lines if line.startswith("retrying in ")]
    url = f"{ROOT}/workflows/wf_1"
    assert lines == [
        ("DEBUG", f"GET {url}, attempt 1: status 503 in 500 ms (request_id: 'req\\n2')"),
        (
            "INFO",
            f"{pauses[0]} s: GET {url}, attempt 1 ended with status 503, 'bu\\nsy' "
            "(request_id: 'req\\n2')",
        ),
        ("DEBUG", f"GET {url}, attempt 2: maybe processed in 500 ms"),
        (
            "INFO",
            f"{pauses[1]} s: GET {url}, attempt 2 ended with maybe processed, 'connection_error'",
        ),
        ("DEBUG", f"GET {url}, attempt 3: status 200 in 500 ms (request_id: 'req_1')"),
    ]


def test_a_reconnection_is_a_line_at_info(caplog):
    caplog.set_level(logging.INFO, logger="flowmaestro")
    kind = {"Content-Type": "text/event-stream"}
    begun = Response(200, kind, b"event: node:started\ndata: {}\n\n")
    ended = Response(200, kind, b"event: execution:completed\ndata: {}\n\n")
    asks([begun, ended], lambda client: list(client.executions.stream("e")))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("reconnecting in ")
    assert line.endswith(f" s: GET {ROOT}/executions/e/events, attempt 1 ended with reply broken")


def test_a_poll_that_failed_and_is_repeated_is_a_line_at_info(caplog):
    caplog.set_level(logging.INFO, logger="flowmaestro")
    ended = Response(200, {}, b'{"data": {"id": "e", "status": "completed"}}')
    asks([BUSY, ended], lambda client: client.executions.wait_for_completion("e"))
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_an_echo_in_a_request_id_or_a_redirect_is_not_logged(caplog):
    caplog.set_level(logging.DEBUG, logger="flowmaestro")
    moved = Response(302, {"Location": f"/{KEY}", "X-Request-ID": KEY}, b"moved")
    found = Response(200, {}, b'{"data": {}, "meta": {"request_id": "%s"}}' % KEY.encode())
    asks([moved, found])
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"GET {ROOT}/workflows/wf_1, attempt 1: status 302 in 500 ms (request_id: '***')",
        "GET https://api.flowmaestro.io/***, attempt 1: status 200 in 500 ms (request_id: '***')",
    ]


def test_no_secret_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    echo = Response(500, {"X-Api-Key": KEY}, b'{"error": {"message": "%s hush"}}' % KEY.encode())
    with pytest.raises(FlowMaestroError):
        asks(
            [echo] * 4,
            lambda client: client.request(
                "GET", "/x", params={"token": "hush"}, json={"a": "hush"}
            ),
            headers={"X-Own-Secret": "hush"},
            stream_times=StreamTimes(),
        )
    assert len(caplog.records) == 7
    for record in caplog.records:
        shown = record.getMessage() + repr(vars(record))
        assert KEY not in shown
        assert "hush" not in shown


SCRIPT = """
import sys, threading
from flowmaestro import FlowMaestroClient
from flowmaestro_transports import Response

replies = iter([Response(503, {"Retry-After": "0"}), Response(200, {}, b'{"data": {}}')])
makers = [threading.Thread(target=FlowMaestroClient, args=("k",)) for _ in range(20)]
for maker in makers:
    maker.start()
for maker in makers:
    maker.join()
FlowMaestroClient("k", transport=lambda request: next(replies), max_retries=1).workflows.get("w")
print("logging" in sys.modules)
"""


def run_with(level):
    """What a program prints on both outputs, with `FLOWMAESTRO_LOG` so."""
    environment = {**os.environ, "FLOWMAESTRO_LOG": level}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout.split(), done.stderr.splitlines()


@pytest.mark.parametrize(
    ("level", "lines"),
    [("debug", ["DEBUG", "INFO", "DEBUG"]), ("INFO", ["INFO"]), ("warning", []), ("", [])],
)
def test_the_environment_turns_it_on(level, lines):
    printed, logged = run_with(level)
    assert [line.split()[3] for line in logged] == lines
    assert all(" flowmaestro " in line for line in logged)
    assert printed == [str(bool(level))]


@pytest.mark.parametrize("client", [FlowMaestroClient, AsyncFlowMaestroClient])
@pytest.mark.parametrize("level", ["loud", "10", " debug"])
def test_invalid_log_level_warns_once(monkeypatch, capsys, client, level):
    monkeypatch.setenv("FLOWMAESTRO_LOG", level)
    for _ in range(2):
        client(KEY)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"WARNING FLOWMAESTRO_LOG must be debug, info or warning, not {level!r}")
    assert logging.getLogger("flowmaestro").level == logging.WARNING


def test_standard_error_may_be_gone(monkeypatch, capfd):
    monkeypatch.setenv("FLOWMAESTRO_LOG", "debug")
    monkeypatch.setattr(sys, "stderr", None)
    asks([FOUND])
    assert capfd.readouterr() == ("", "")
