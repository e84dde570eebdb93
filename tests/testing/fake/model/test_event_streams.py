"""Event streams in virtual time: what is said when, and what is never said."""

from __future__ import annotations

import pytest

LIVE = [
    (0.05, "execution:started"),
    (0.05, "node:started"),
    (0.25, "node:completed"),
    (0.25, "execution:progress"),
    (0.25, "node:started"),
    (0.35, "node:completed"),
    (0.35, "execution:progress"),
    (0.35, "execution:completed"),
]


def start(caller, workflow_id="wf_123", inputs=None):
    body = {"inputs": inputs or {}}
    return caller.data("POST", f"/workflows/{workflow_id}/execute", body)["execution_id"]


def open_stream(caller, execution_id):
    reply = caller.start_call("GET", f"/executions/{execution_id}/events")
    assert (reply.ready, reply.status) == (True, 200)
    return reply


def test_a_stream_has_every_event_of_an_execution(caller, shapes):
    execution_id = start(caller)
    events = caller.events(open_stream(caller, execution_id))
    assert events[0] == (0.0, "connected", {"execution_id": execution_id, "status": "pending"})
    assert [event[:2] for event in events[1:]] == LIVE
    assert caller.now == pytest.approx(0.85), "closed half a second after the end"
    if shapes == "documented":  # What is deployed is compared with a recording.
        by_name = {name: data for _, name, data in events}
        assert by_name["node:completed"] == {
            "timestamp": "2023-11-14T22:13:20.350Z",
            "execution_id": execution_id,
            "node_id": "out",
            "node_name": "Output",
            "node_type": "output",
            "outputs": {"message": "Hello, world!"},
            "duration_ms": 100,
        }
        assert by_name["execution:progress"]["progress"] == 100
        assert by_name["execution:completed"]["outputs"] == {"message": "Hello, world!"}


def test_events_before_subscription_are_lost(caller):
    execution_id = start(caller)
    caller.pass_time(0.3)
    events = caller.events(open_stream(caller, execution_id))
    assert [name for _, name, _ in events] == [
        "connected",
        "node:completed",
        "execution:progress",
        "execution:completed",
    ]


@pytest.mark.parametrize("events", ["live", "silent"])
def test_a_latecomer_gets_the_end_at_once(make_caller, shapes, events):
    caller = make_caller(shapes, events)
    execution_id = start(caller)
    caller.pass_time(10)
    events = caller.events(open_stream(caller, execution_id))
    assert [event[:2] for event in events] == [(10.0, "execution:completed")]
    assert events[0][2] == {
        "execution_id": execution_id,
        "status": "completed",
        "outputs": {"message": "Hello, world!"},
        "error": None,
        "completed_at": "2023-11-14T22:13:20.350Z",
    }
    assert caller.now == pytest.approx(10.5)


def test_silent_streams_only_stay_alive(make_caller, shapes):
    caller = make_caller(shapes, "silent")
    seen = [event[:2] for event in caller.events(open_stream(caller, start(caller)), until=100)]
    alive = ": keepalive"
    assert seen == [(0.0, "connected"), (30.0, alive), (60.0, alive), (90.0, alive)]


def test_many_streams_of_one_execution(caller):
    execution_id = start(caller)
    first, second = open_stream(caller, execution_id), open_stream(caller, execution_id)
    assert caller.fake.open_streams == 2
    first.stream.close()
    assert caller.fake.open_streams == 1
    assert caller.events(second)[-1][1] == "execution:completed"
    assert first.stream.poll(caller.now) is None
    assert caller.fake.open_streams == 0


MESSAGES = "/threads/thread_xyz789/messages"
STORY = {"content": "Tell me a story", "stream": True}


def test_the_stream_of_a_thread_has_its_messages_from_the_subscription_on(make_caller, shapes):
    caller = make_caller(shapes, messages="sse")
    subscription = caller.start_call("GET", "/threads/thread_xyz789/events")
    caller.start_call("POST", MESSAGES, STORY)
    late = None
    events = caller.events(subscription, until=0.2)
    late = caller.start_call("GET", "/threads/thread_xyz789/events")
    events += caller.events(subscription, until=1)
    names = [name for _, name, _ in events]
    assert (names[0], names[1], names[-1]) == ("connected", "message:started", "message:completed")
    text = "".join(data["token"] for _, name, data in events if name == "message:token")
    assert text == events[-1][2]["content"]

    heard = late.stream.poll(caller.now).decode()
    assert "message:started" not in heard, "what was said before is lost"
    assert "message:completed" in heard
