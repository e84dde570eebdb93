"""What holds for an event stream whatever happens, and the truth of its table."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Action, Done, Emit, Open, Read, Send
from flowmaestro_core.http.messages import Headers, ResponseHead
from flowmaestro_core.policy.stream_times import LEAST, StreamTimes
from flowmaestro_core.streams.event_stream import EventStreamMachine
from tests.harness.core.answers import completed, token, unsent
from tests.harness.core.followed import (
    COMPLETED,
    CONNECTED,
    ENDED,
    EVENTS,
    RUNNING,
    THREAD,
    streaming,
)
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    KEEPALIVE,
    Possibilities,
    Report,
    Stepper,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    sse,
    wander,
)

SSE_HEAD = ResponseHead(200, Headers({"Content-Type": "text/event-stream"}))
HEADS = (
    SSE_HEAD,
    SSE_HEAD,
    ResponseHead(204, Headers()),
    ResponseHead(302, Headers({"Location": "/x"})),
    ResponseHead(401, Headers()),
    ResponseHead(429, Headers({"Retry-After": "1"})),
    ResponseHead(200, Headers({"Content-Type": "application/json"})),
)
PAUSED = an_envelope({"id": "ex_1", "status": "paused"})
REPLIES = (
    a_response(200, RUNNING),
    a_response(200, RUNNING),
    a_response(200, PAUSED),
    a_response(200, ENDED),
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(503),
)
STARTED = sse("node:started")
GARBLED = b"event: execution:completed\ndata: {\n\n"
CHUNKS = (
    KEEPALIVE,
    CONNECTED,
    STARTED,
    STARTED + STARTED,
    STARTED + COMPLETED,
    STARTED + GARBLED,
    COMPLETED,
)


@pytest.mark.no_cover
def test_the_table_is_true() -> None:
    """What an execution's stream and an answer's do together."""
    world = Possibilities(REPLIES, HEADS, CHUNKS)
    ending = Possibilities((a_response(200, ENDED),), (SSE_HEAD,), (STARTED, GARBLED))
    refused = a_response(429, headers={"Retry-After": "100"})
    throttled = Possibilities((a_response(200, RUNNING), refused), (SSE_HEAD,), (KEEPALIVE,))
    calm = Possibilities(REPLIES, (SSE_HEAD,), (KEEPALIVE,))
    patient = Possibilities(REPLIES, (SSE_HEAD,), (b"retry: 20000\n\n",))
    assert_table_is_true(
        EventStreamMachine,
        wander(streaming, world, walks=1500),
        wander(lambda: streaming(deadline=1060.0), world, walks=1500),
        wander(lambda: streaming(THREAD), world, walks=200),
        wander(lambda: streaming(deadline=1000.0), world, walks=1),
        wander(lambda: streaming(deadline=1060.0, silent_poll=1.0), world, walks=50),
        wander(lambda: streaming(deadline=1031.0), world, walks=300),
        wander(lambda: streaming(deadline=1036.0), calm, walks=1500),
        wander(streaming, throttled, walks=300),
        wander(streaming, ending, walks=300),
        wander(streaming, patient, walks=300),
        *(wander(unsent, sent, walks=1500) for sent in answering_worlds()),
    )


class EndingWatcher(Stepper):
    """Notes which kind of ending follows which, after every event."""

    def __init__(self, machine: Any, terminal: Any, changes: Set[Tuple[str, str]]) -> None:
        super().__init__(machine, terminal=terminal)
        self.changes = changes

    def report(self, report: Report) -> Action:
        before = type(self.machine._ending).__name__  # type: ignore[attr-defined]
        action = super().report(report)
        after = type(self.machine._ending).__name__  # type: ignore[attr-defined]
        if before != after:
            self.changes.add((before, after))
        return action


def test_an_ending_is_replaced_only_as_its_table_says() -> None:
    changes: Set[Tuple[str, str]] = set()

    def watched(make: Callable[[], Stepper]) -> Callable[[], Stepper]:
        return lambda: EndingWatcher(make().machine, make().terminal, changes)

    world = Possibilities(REPLIES, HEADS, CHUNKS)
    broken = ResponseHead(503, Headers())
    away = Possibilities((a_response(200, RUNNING), a_response(503)), (broken,) * 3 + (SSE_HEAD,))
    times = StreamTimes(reconnect_for=3.0)
    for walks in (
        wander(watched(lambda: streaming(deadline=1060.0)), world, walks=150),
        wander(watched(lambda: streaming(times=times)), away, walks=150),
        *(wander(watched(unsent), sent, walks=60) for sent in answering_worlds()),
    ):
        deque(walks, maxlen=0)
    assert changes == {
        ("NoneType", "UnlessRead"),
        ("NoneType", "UnlessProbed"),
        ("NoneType", "Certain"),
        ("UnlessRead", "NoneType"),
        ("UnlessRead", "Certain"),
        ("UnlessProbed", "Certain"),
        ("UnlessProbed", "NoneType"),
    }


@pytest.mark.parametrize("silent_poll", [None, 1.0])
def test_the_table_is_true_with_the_shortest_times(silent_poll: Optional[float]) -> None:
    """A time that is lost when it is added to the clock would."""
    times = StreamTimes(*[LEAST] * 6)
    for _ in wander(
        lambda: streaming(times=times, silent_poll=silent_poll),
        Possibilities(REPLIES, HEADS, CHUNKS),
        walks=100,
    ):
        pass


def answering_worlds() -> List[Possibilities]:
    """Worlds in which the POST is the stream, has the answer, names it, gets a 501, or is slow."""
    whole = a_response(body=an_envelope({"message_id": "m", "content": "Hello"}))
    pending = a_response(body=an_envelope({"message_id": "m", "status": "pending"}))
    rows = [{"id": "m", "role": "assistant", "content": "Hello"}]
    replies = (whole, pending, a_response(429), a_response(body=an_envelope(rows)))
    ended = (token("He"), completed())
    return [
        Possibilities(replies, (SSE_HEAD,), ended),
        Possibilities(replies, HEADS, (KEEPALIVE, whole.body, *ended)),
        Possibilities(replies, (SSE_HEAD, HEADS[-1]), (pending.body, whole.body, *ended)),
        Possibilities(replies, (ResponseHead(501, Headers()), SSE_HEAD), ended),
        Possibilities(replies, (SSE_HEAD,), (KEEPALIVE, token("He"))),
    ]


event_blocks = st.builds(
    sse,
    st.sampled_from(
        ["connected", "node:started", "node:stream", "execution:completed", "execution:failed", ""]
    ),
    json_values,
    id=st.one_of(st.none(), st.sampled_from(["", "1", "2", "3"])),
)
sse_bytes = st.one_of(
    event_blocks,
    event_blocks.map(lambda block: block[:-1]),
    event_blocks.flatmap(lambda block: st.integers(1, len(block)).map(lambda n: block[:n])),
    st.just(KEEPALIVE),
    st.sampled_from([b"retry: 100\n\n", b"retry: 99999999\n\n", b"\n\n", b"\r", b"data:\xff\n\n"]),
    st.binary(min_size=1, max_size=20),
)
executions = st.one_of(
    st.sampled_from([a_response(body=RUNNING).body, a_response(body=ENDED).body]),
    json_values.map(lambda status: a_response(body=an_envelope({"status": status})).body),
    json_values.map(lambda data: a_response(body=an_envelope(data)).body),
    json_values.map(lambda error: a_response(body=an_error("x", y=error)).body),
)


class EventStreamProperties(MachineProperties):
    chunks = sse_bytes
    responses = responses(executions)
    more: Tuple[Any, Dict[str, Any]] = (EVENTS, {})

    def make(self) -> Stepper:
        events, more = self.more
        return streaming(events, **more)

    def check(self) -> None:
        """A silent end is impossible; so is asking in a circle, and more retries than allowed."""
        stepper = self.stepper
        if isinstance(stepper.action, Done):
            assert stepper.ended_by in self.more[0].terminal
        if isinstance(stepper.action, Read):
            assert stepper.action.patience <= 90.0 + 1e-6
        without_progress = 0
        for action in stepper.trace:
            without_progress += isinstance(action, Open)
            if isinstance(action, (Emit, Send)):
                without_progress = 0
        assert without_progress <= 4 * 8

    def teardown(self) -> None:
        marks = [item for item in self.stepper.items if item["type"] == "stream:reconnected"]
        assert [mark["attempt"] for mark in marks] == list(range(1, len(marks) + 1))


class DeadlineProperties(EventStreamProperties):
    more = (EVENTS, {"deadline": 1060.0, "silent_poll": 1.0})


class ThreadProperties(EventStreamProperties):
    more = (THREAD, {})


TestEventStreamProperties = collected(EventStreamProperties)
TestDeadlineProperties = collected(DeadlineProperties)
TestThreadProperties = collected(ThreadProperties)
