"""A stream that says nothing, for minutes of virtual time: it lives, and it learns the truth."""

from __future__ import annotations

import random
from typing import Any, List, Optional

import pytest

from flowmaestro import FlowMaestroClient, StreamTimes
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node
from flowmaestro_core.http.messages import Phase, Request, Response, TransportFailure
from flowmaestro_transports import OpenResponse

KEEPALIVE = b": keepalive\n\n"
WITH_AND_WITHOUT_KEEPALIVES = pytest.mark.parametrize("keepalives", [True, False])
FIRST_QUESTION, LONGEST_SILENCE, DEAD = 5.0, 30.0, 90.0


class Watched(MemoryTransport):
    """Notes what is asked when, and may keep the keepalives back."""

    def __init__(self, fake: FakeFlowMaestro, *, keepalives: bool = True) -> None:
        super().__init__(fake)
        self.keepalives = keepalives
        self.openings: List[float] = []
        self.questions: List[float] = []
        self.statuses: List[int] = []

    def send(self, request: Request, timeout: float) -> Response:
        asked = self.now()
        response = super().send(request, timeout)
        if request.method == "GET":
            self.questions.append(asked)
            self.statuses.append(response.status)
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

    def __init__(self, lasting: float, *, keepalives: bool = True, per_minute: int = 6_000) -> None:
        self.fake = FakeFlowMaestro(events="silent")
        self.fake.rate_limit(per_minute=per_minute)
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
@pytest.mark.parametrize("moment", [0.0, 4.9, 5.0, 29.0, 88.7, 90.0, 300.5, 599.9, 600.0, 1234.5])
def test_a_cancellation_is_noticed(moment: float, keepalives: bool) -> None:
    silence = Silence(lasting=36_000.0, keepalives=keepalives)
    silence.cancel_after(moment)
    assert silence.types()[-1] == "execution:cancelled"
    assert moment <= silence.elapsed <= moment + LONGEST_SILENCE


def test_questions_come_ever_less_often() -> None:
    silence = Silence(lasting=200.0)
    assert silence.types() == ["connected", "execution:completed"]
    moments = [silence.start, *silence.transport.questions]
    assert differences(moments)[:7] == [5.0, 7.5, 11.25, 16.875, 25.312, 30.0, 30.0]


def test_ninety_seconds_without_a_byte_are_the_end_of_a_connection() -> None:
    silence = Silence(lasting=400.0, keepalives=False)
    silence.types()
    gaps = differences(silence.transport.openings)
    assert len(gaps) == 4
    assert all(DEAD <= gap <= DEAD + StreamTimes().reconnect_base for gap in gaps)


def test_questions_stay_within_the_rate_limit() -> None:
    silence = Silence(lasting=100.0, per_minute=5)
    assert silence.types() == ["connected", "execution:completed"]
    assert set(silence.transport.statuses) == {200}
    # Execution, stream and three questions are five: the next has to wait for the new minute.
    gaps = differences([silence.start, *silence.transport.questions])
    assert gaps[:3] == [5.0, 7.5, 11.25]
    assert gaps[3] == pytest.approx(60.0 - 23.75, abs=1.0)


class Highest(random.Random):
    def random(self) -> float:
        return 1.0 - 2.0**-53


class Lost(Watched):
    """The first connection ends at once, no other comes about, and none but the last question."""

    def __init__(self, fake: FakeFlowMaestro, reconnections: int) -> None:
        super().__init__(fake)
        self.random = Highest()
        self.reconnections = reconnections
        self.lost_at: List[float] = []

    def send(self, request: Request, timeout: float) -> Response:
        if request.method == "GET" and len(self.lost_at) <= self.reconnections:
            raise TransportFailure(Phase.NOT_SENT, "nobody there")
        return super().send(request, timeout)

    def open(self, request: Request, timeout: float) -> Any:
        self.lost_at.append(self.now())
        if len(self.lost_at) > 1:
            raise TransportFailure(Phase.NOT_SENT, "nobody there")
        return _Broken(super().open(request, timeout))


class _Broken(_WithoutKeepalives):
    def __init__(self, body: OpenResponse) -> None:
        self.status = body.status
        self.headers = body.headers
        self.close = body.close

    def read(self, patience: float) -> Optional[bytes]:
        raise TransportFailure(Phase.REPLY_BROKEN, "the connection was lost")


def test_reconnections_back_off_and_the_last_word_has_the_execution() -> None:
    fake = FakeFlowMaestro()
    transport = Lost(fake, reconnections=8)
    with FlowMaestroClient(
        fake.api_key,
        transport=transport,
    ) as client:
        run = client.workflows.execute("wf_123", inputs={"name": "John"})
        events = list(client.executions.stream(run["data"]["execution_id"]))
    assert events[-1]["type"] == "execution:completed"
    pauses = [later - at for at, later in zip(transport.lost_at, transport.lost_at[1:])]
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 8.5])


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


@pytest.mark.parametrize("name", StreamTimes.__dataclass_fields__)
@pytest.mark.parametrize(
    ("seconds", "error"),
    [(0, ValueError), (-1.0, ValueError), (float("nan"), ValueError), ("5", TypeError)],
)
def test_a_time_that_is_none(name: str, seconds: Any, error: Any) -> None:
    with pytest.raises(error, match=name):
        StreamTimes(**{name: seconds})
