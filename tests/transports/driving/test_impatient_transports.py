"""A transport that loses a quiet body: its streams live on keepalives, and end with the truth."""

from __future__ import annotations

import json
import select
import time
from typing import Any, List

import pytest

from flowmaestro import FlowMaestroClient, StreamTimes
from flowmaestro_core.policy import polling
from flowmaestro_core.streams import first_event
from flowmaestro_transports import RequestsTransport


def streamed(url: str, times: StreamTimes) -> List[str]:
    """Return the types of the events of an execution, whose stream must not reconnect."""
    with (
        FlowMaestroClient(
            "fm_live_x", base_url=url, stream_times=times, transport=RequestsTransport()
        ) as client,
        client.executions.stream("exec_1") as stream,
    ):
        types = [event["type"] for event in stream]
        assert stream.reconnects == 0
        return types


def test_on_requests_a_stream_lives_on_keepalives_and_notices_a_cancellation(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On sockets, in a fraction of the time."""
    monkeypatch.setattr(first_event, "LEAST_PATIENCE", 20.0)
    monkeypatch.setattr(polling, "LEAST_TIMEOUT", 60.0)  # A probe that is lost is sent again.
    probes: List[float] = []

    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target.endswith("/events"):
            content = ("Content-Type", "text/event-stream")
            peer.send(scripted.reply(headers=[content, scripted.CHUNKED], length=False))
            peer.send(scripted.chunk(b"event: connected\ndata: {}\n\n"))
            while not peer.server.leaving:
                peer.send(scripted.chunk(b": keepalive\n\n"))
                time.sleep(0.1)
            return
        while request is not None:
            probes.append(time.monotonic())
            status = "running" if len(probes) < 5 else "cancelled"
            data = {"data": {"id": "exec_1", "status": status}}
            peer.send(scripted.reply(json.dumps(data).encode()))
            request = peer.read_request()

    times = StreamTimes(event_idle=0.05, event_idle_max=0.05)
    with scripted.ScriptedServer(handler) as server:
        assert streamed(server.url, times) == ["connected", "execution:cancelled"]
    assert len(probes) == 5


def test_on_requests_the_end_of_a_silent_execution_is_noticed_between_the_first_waits(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other times are long, so that a busy machine changes nothing."""
    monkeypatch.setattr(first_event, "WAITS", (0.05,) * 4)
    monkeypatch.setattr(polling, "LEAST_TIMEOUT", 60.0)
    times = StreamTimes(event_idle=60.0, event_idle_max=60.0)
    asked: List[str] = []

    def handler(peer: Any) -> None:
        """Send no event, unless the client reads for long or opens a stream without a poll."""
        while (request := peer.read_request()) is not None:
            asked.append("stream" if request.target.endswith("/events") else "poll")
            if asked[-1] == "poll":
                status = "running" if asked.count("poll") < 3 else "completed"
                data = {"data": {"id": "exec_1", "status": status}}
                peer.send(scripted.reply(json.dumps(data).encode()))
                continue
            content = ("Content-Type", "text/event-stream")
            peer.send(scripted.reply(headers=[content, scripted.CHUNKED], length=False))
            silence = 10.0 if asked[-2:] != ["stream"] * 2 else 0.0
            if not select.select([peer.sock], [], [], silence)[0]:
                peer.send(scripted.chunk(b"event: execution:failed\ndata: {}\n\n"))

    with scripted.ScriptedServer(handler) as server:
        assert streamed(server.url, times) == ["execution:completed"]
    assert asked == ["stream", "poll"] * 3
