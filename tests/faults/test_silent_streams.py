"""A stream that says nothing, for minutes of virtual time: it lives, and it learns the truth.

Its clocks by themselves are in `tests/core/streams/test_event_stream_clocks.py`.
"""

from __future__ import annotations

from typing import Any, List, Optional

import pytest

from flowmaestro import FlowMaestroClient, StreamTimes
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node
from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports import OpenResponse

KEEPALIVE = b": keepalive\n\n"
WITH_AND_WITHOUT_KEEPALIVES = pytest.mark.parametrize("keepalives", [True, False])
LONGEST_SILENCE, DEAD = 30.0, 90.0


class Watched(MemoryTransport):
    """Notes what is asked when, and may keep the keepalives back."""

    def __init__(self, fake: FakeFlowMaestro, *, keepalives: bool = True) -> None:
        super().__init__(fake)
        self.keepalives = keepalives
        self.openings: List[float] = []
        self.questions: List[float] = []

    def send(self, request: Request, timeout: float) -> Response:
        asked = self.now()
        response = super().send(request, timeout)
        if request.method == "GET":
            self.questions.append(asked)
        return response

    def open(self, request: Request, timeout: float) -> Any:
        self.openings.append(self.now())
        body = super().open(request, timeout)
        return body if self.keepalives else _WithoutKeepalives(body, self)


class _WithoutKeepalives:
    def __init__(self, body: OpenResponse, transport: MemoryTransport) -> None:
        self._body = body
        self._transport = transport
        self.status = body.status
        self.headers = body.headers
        self.close = body.close

    def read(self, patience: float) -> Optional[bytes]:
        deadline = self._transport.now() + patience
        while (data := self._body.read(deadline - self._transport.now())) == KEEPALIVE:
            pass
        return data


class Silence:
    """A silent FlowMaestro in which one execution runs, a client, and the time since its start."""

    def __init__(self, lasting: float, *, keepalives: bool = True) -> None:
        self.fake = FakeFlowMaestro(events="silent")
        self.transport = Watched(self.fake, keepalives=keepalives)
        self.client = FlowMaestroClient(self.fake.api_key, transport=self.transport)
        workflow = self.fake.workflow(nodes=[Node("work", seconds=lasting)])
        reply = self.client.workflows.execute(workflow, inputs={"name": "John"})
        self.execution_id: str = reply["data"]["execution_id"]
        self.start = self.transport.now()

    @property
    def elapsed(self) -> float:
        return self.transport.now() - self.start

    def cancel_after(self, seconds: float) -> None:
        other = FlowMaestroClient(self.fake.api_key, transport=MemoryTransport(self.fake))
        self.fake.clock.call_later(seconds, lambda: other.executions.cancel(self.execution_id))

    def types(self) -> List[str]:
        with self.client:
            return [event["type"] for event in self.client.executions.stream(self.execution_id)]


def differences(moments: List[float]) -> List[float]:
    return [round(later - earlier, 3) for earlier, later in zip(moments, moments[1:])]


@WITH_AND_WITHOUT_KEEPALIVES
def test_it_lives_through_ten_silent_minutes(keepalives: bool) -> None:
    silence = Silence(lasting=630.0, keepalives=keepalives)
    with silence.client as client:
        *before, last = client.executions.stream(silence.execution_id)
    assert last["type"] == "execution:completed"
    assert last["outputs"] == {"message": "Hello, John!"}
    assert 630.0 <= silence.elapsed <= 630.0 + LONGEST_SILENCE + 1.0

    reconnections = len(silence.transport.openings) - 1
    marks = [event["attempt"] for event in before if event["type"] == "stream:reconnected"]
    assert marks == list(range(1, reconnections + 1))
    assert [event["type"] for event in before][: len(before) - len(marks)] == ["connected"]
    assert reconnections == (0 if keepalives else 630 // DEAD)


@WITH_AND_WITHOUT_KEEPALIVES
@pytest.mark.parametrize("moment", [0.0, 88.7, 599.9])
def test_a_cancellation_is_noticed(moment: float, keepalives: bool) -> None:
    silence = Silence(lasting=36_000.0, keepalives=keepalives)
    silence.cancel_after(moment)
    assert silence.types()[-1] == "execution:cancelled"
    assert moment <= silence.elapsed <= moment + LONGEST_SILENCE


def test_the_times_are_the_callers_to_choose() -> None:
    times = StreamTimes(event_idle=1.0, event_idle_max=2.0, bytes_idle=10.0)
    silence = Silence(lasting=12.0, keepalives=False)
    client = FlowMaestroClient(
        silence.fake.api_key, transport=silence.transport, stream_times=times
    ).with_options(timeout=1.0)
    events = [event["type"] for event in client.executions.stream(silence.execution_id)]
    assert events == ["connected", "stream:reconnected", "execution:completed"]
    assert differences([silence.start, *silence.transport.questions])[:4] == [1.0, 1.5, 2.0, 2.0]
    assert differences(silence.transport.openings)[0] == pytest.approx(10.0, abs=0.5)
