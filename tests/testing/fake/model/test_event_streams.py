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
    by_name = {name: data for _, name, data in events}
    if shapes == "deployed":
        assert by_name["node:completed"] == {
            "type": "node:completed",
            "timestamp": 1_700_000_000_350,
            "executionId": execution_id,
            "nodeId": "out",
            "nodeName": "Output",
            "nodeType": "output",
            "output": {"message": "Hello, world!"},
            "duration": 100,
        }
        assert by_name["execution:progress"]["percentage"] == 100
        assert "currentNode" not in by_name["execution:progress"]
    else:
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


def test_a_cancellation_is_not_told(caller):
    execution_id = start(caller)
    reply = open_stream(caller, execution_id)
    caller.pass_time(0.1)
    caller.call("POST", f"/executions/{execution_id}/cancel")
    names = [name for _, name, _ in caller.events(reply, until=70)]
    assert names == ["connected", "execution:started", "node:started", *[": keepalive"] * 2]


def test_only_the_documented_end_of_a_cancelled_execution_has_a_time(caller, shapes):
    execution_id = start(caller)
    caller.call("POST", f"/executions/{execution_id}/cancel")
    ((_, name, last),) = caller.events(open_stream(caller, execution_id))
    assert (name, last["status"]) == ("execution:cancelled", "cancelled")
    assert ("completed_at" in last) == (shapes == "documented")


def test_many_streams_of_one_execution(caller):
    execution_id = start(caller)
    first, second = open_stream(caller, execution_id), open_stream(caller, execution_id)
    assert caller.fake.open_streams == 2
    first.stream.close()
    assert caller.fake.open_streams == 1
    assert caller.events(second)[-1][1] == "execution:completed"
    assert first.stream.poll(caller.now) is None
    assert caller.fake.open_streams == 0


def test_a_driver_is_woken(caller):
    reply = open_stream(caller, start(caller))
    reply.stream.poll(caller.now)
    woken = []
    reply.stream.wake = lambda: woken.append(caller.now)
    caller.pass_time(0.06)
    assert woken == [pytest.approx(0.06)] * 2


def test_a_refused_stream_is_answered_with_json(caller, unknown_uuid):
    caller.key = "fm_live_wrong"
    reply = caller.call("GET", "/executions/exec_xyz789/events")
    assert (reply.status, reply.stream) == (401, None)
    caller.key = caller.fake.api_key
    reply = caller.call("GET", f"/executions/{unknown_uuid}/events")
    assert (reply.status, reply.stream) == (404, None)


MESSAGES = "/threads/thread_xyz789/messages"
STORY = {"content": "Tell me a story", "stream": True}


def test_a_message_streamed_on_its_own_connection(make_caller):
    caller = make_caller("documented")
    events = caller.events(caller.start_call("POST", MESSAGES, STORY))
    names = [name for _, name, _ in events]
    assert (names[0], set(names[1:-1]), names[-1]) == (
        "message:started",
        {"message:token"},
        "message:completed",
    )
    text = "".join(data["token"] for _, name, data in events if name == "message:token")
    assert text == events[-1][2]["content"]
    assert events[-1][2]["usage"]["total_tokens"] > 0
    assert events[-1][0] == pytest.approx(0.4)
    assert caller.now == pytest.approx(0.9)


def test_a_streamed_message_that_fails(make_caller):
    caller = make_caller("documented")

    def fail(text):
        raise RuntimeError("no tokens left")

    thread = caller.data("POST", f"/agents/{caller.fake.agent(None, fail)}/threads")["id"]
    events = caller.events(caller.start_call("POST", f"/threads/{thread}/messages", STORY))
    assert [name for _, name, _ in events] == ["message:started", "message:failed"]
    assert events[-1][2]["error"] == "RuntimeError: no tokens left"


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
