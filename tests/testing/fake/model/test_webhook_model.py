"""Webhooks in the model: subscriptions, signatures, deliveries and their repetition."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from flowmaestro.testing.fake.model import seeds

HOOK = {
    "name": "Mine",
    "url": "http://localhost:1/hook",
    "events": ["execution.completed", "execution.failed"],
}


def subscribe(caller, **changes):
    return caller.data("POST", "/webhooks", {**HOOK, **changes})


def expected_signature(secret, body):
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def run_to_end(caller, workflow_id="wf_123"):
    caller.start_call("POST", f"/workflows/{workflow_id}/execute", {})
    caller.pass_time(1)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"url": "nope"},
        {"url": "http://"},
        {"url": "http://[/"},
        {"url": "http://h:99999/"},
        {"url": "http://h/\r\nx"},
        {"events": "test"},
        {"events": ["execution.exploded"]},
        {"events": [{}]},
        {"headers": {"X-A": "a\r\nb"}},
        {"headers": {"X A": "a"}},
        {"headers": {"X-A": 1}},
    ],
)
def test_invalid_webhook_is_refused(caller, change):
    reply = caller.call("POST", "/webhooks", {**HOOK, **change})
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "validation_error")
    assert caller.call("PATCH", "/webhooks/wh_abc123", change).status == 400


def test_a_delivery_is_signed_and_has_the_headers_of_its_webhook(caller):
    hook = subscribe(caller, headers={"X-Mine": "yes"})
    run_to_end(caller)
    (delivery,) = [d for d in caller.answer_deliveries() if d.webhook_id == hook["id"]]
    request = delivery.request
    assert (request.method, request.url) == ("POST", HOOK["url"])
    assert request.headers["X-Mine"] == "yes"
    assert request.headers["X-FlowMaestro-Delivery-ID"] == delivery.id
    signature = request.headers["X-FlowMaestro-Signature"]
    assert signature == expected_signature(hook["secret"], request.body)
    body = json.loads(request.body)
    assert body["event"] == "execution.completed"
    assert delivery.id.isdigit()
    assert body["id"] != delivery.id
    assert body["data"]["outputs"] == {"message": "Hello, world!"}
    assert request.headers["X-FlowMaestro-Event"] == "execution.completed"
    assert (delivery.state, delivery.attempts) == ("delivered", 1)


def attempts_of(caller, hook, answers):
    """`(seconds, request)` of each attempt of a hook's first delivery, answered one by one."""
    run_to_end(caller)
    attempts = []
    (ours,) = [it for it in caller.fake.due(caller.now) if it.webhook_id == hook["id"]]
    while ours.state == "pending":
        attempts.append((caller.now - 1.0, ours.request))
        caller.fake.delivered(ours, answers[len(attempts) - 1], caller.now)
        while ours.state == "pending" and ours not in caller.fake.due(caller.now):
            caller.now = caller.fake.next_time()
    return ours, attempts


def test_repetition_until_given_up(caller):
    hook = subscribe(caller, url="http://localhost:1/down")
    answers = [503, None, 408, 425, 429]
    given_up, attempts = attempts_of(caller, hook, answers)
    assert [time for time, _ in attempts] == pytest.approx([0.0, 120.0, 360.0, 840.0, 1800.0])
    assert (given_up.state, given_up.attempts, given_up.status_code) == ("failed", 5, 429)
    first, *retries = [request for _, request in attempts]
    for retry in retries:
        assert retry.body != first.body
        assert json.loads(retry.body) == json.loads(first.body)
        headers = dict(retry.headers)
        signature = headers.pop("x-flowmaestro-signature")
        assert signature == expected_signature(hook["secret"], retry.body)
        told = dict(first.headers)
        assert told.pop("x-flowmaestro-signature") != signature
        assert headers == told, "the delivery id is the same"


@pytest.mark.parametrize("status", [301, 400, 404, 410, 422])
def test_a_receiver_that_refuses_for_good_is_not_asked_again(caller, status):
    refused, attempts = attempts_of(caller, subscribe(caller), [status])
    assert (refused.state, refused.error, len(attempts)) == ("failed", f"HTTP {status}", 1)


def test_a_delivery_that_succeeded_at_last_still_tells_its_error(caller):
    hook = subscribe(caller)
    delivered, _ = attempts_of(caller, hook, [500, 200])
    assert delivered.state == "delivered"
    rows = caller.data("GET", f"/webhooks/{hook['id']}/deliveries")
    (row,) = [row for row in rows if row["id"] == delivered.id]
    assert row["response_status"] == 200
    assert row["error_message"] == "HTTP 500"


def test_an_attempt_is_handed_out_once(caller):
    run_to_end(caller)
    (delivery,) = caller.fake.due(caller.now)
    caller.pass_time(5)
    assert delivery not in caller.fake.due(caller.now)
    caller.fake.delivered(delivery, 204, caller.now)
    assert (delivery.state, delivery.response_time_ms) == ("delivered", 5000)


@pytest.mark.parametrize(
    ("status", "told", "error"),
    [
        (200, {"status_code": 200, "message": "Test webhook delivered successfully"}, None),
        (500, {"status_code": 500, "message": "HTTP 500"}, "HTTP 500"),
        (
            None,
            {"error": "fetch failed", "message": "Failed to deliver test webhook"},
            "fetch failed",
        ),
    ],
)
def test_a_test_waits_for_its_outcome(caller, shapes, status, told, error):
    woken = []
    reply = caller.start_call("POST", "/webhooks/wh_abc123/test", {})
    reply.wake = lambda: woken.append(True)
    assert not reply.ready
    (delivery,) = caller.fake.due(caller.now)
    assert json.loads(delivery.request.body)["event"] == "test"
    signature = delivery.request.headers["X-FlowMaestro-Signature"]
    assert signature == expected_signature(seeds.WEBHOOK_SECRET, delivery.request.body)
    caller.pass_time(0.25)
    caller.fake.delivered(delivery, status, caller.now)
    assert (reply.ready, reply.status, woken) == (True, 200, [True])
    if shapes == "documented":
        told = {"status_code": status, "response_time_ms": 250, "error_message": error}
    assert json.loads(reply.body)["data"] == {"success": error is None, **told}
    caller.pass_time(100)
    assert delivery not in caller.fake.due(caller.now), "a test is not repeated"


def test_each_event_is_delivered_to_its_subscribers(caller):
    every = [
        "execution.started",
        "execution.cancelled",
        "thread.message.created",
        "thread.message.completed",
        "agent.execution.started",
        "agent.execution.completed",
    ]
    hook = subscribe(caller, events=every)
    started = caller.data("POST", "/workflows/wf_abc123/execute", {})["execution_id"]
    caller.pass_time(0.1)
    caller.call("POST", f"/executions/{started}/cancel")
    caller.call("POST", "/threads/thread_xyz789/messages", {"content": "Hi"})
    heard = [d.event for d in caller.fake.deliveries if d.webhook_id == hook["id"]]
    assert sorted(set(heard)) == sorted(every)
    caller.data("PATCH", f"/webhooks/{hook['id']}", {"is_active": False})
    count = len(heard)
    caller.call("POST", "/threads/thread_xyz789/messages", {"content": "Hi"})
    assert count == len([d for d in caller.fake.deliveries if d.webhook_id == hook["id"]])


@pytest.fixture
def starts(caller):
    """A caller whose fake has one webhook, for starts of executions only."""
    for hook in caller.data("GET", "/webhooks"):
        caller.call("DELETE", f"/webhooks/{hook['id']}")
    subscribe(caller, events=["execution.started"])
    return caller


def ended_delivery(starts, status):
    run_to_end(starts)
    (delivery,) = starts.answer_deliveries(status)
    return delivery


def test_a_delivery_that_is_sent_again_is_listed_once_with_its_latest_outcome(starts):
    ended_delivery(starts, 400)
    (refused,) = starts.fake.deliveries
    starts.fake.deliver_again(refused)
    assert starts.fake.deliveries == [], "neither delivered nor given up"
    starts.answer_deliveries(200)
    (delivered,) = starts.fake.deliveries
    assert (delivered.id, delivered.state, delivered.attempts) == (refused.id, "delivered", 2)
    starts.fake.assert_delivered("execution.started", times=1)


def test_a_delivery_that_is_sent_again_is_listed_after_those_that_ended_before(starts):
    first = ended_delivery(starts, 200)
    second = ended_delivery(starts, 200)
    starts.fake.deliver_again(first)
    starts.answer_deliveries(200)
    assert [it.id for it in starts.fake.deliveries] == [second.id, first.id]
    starts.fake.assert_delivered("execution.started", times=2)
    starts.fake.keep_last(1)
    assert [it.id for it in starts.fake.deliveries] == [first.id]
    third = ended_delivery(starts, 200)
    assert [it.id for it in starts.fake.deliveries] == [third.id]


def test_listed_deliveries_are_copies(starts):
    ended_delivery(starts, 503)
    starts.now += 120
    starts.answer_deliveries(200)
    (listed,) = starts.fake.deliveries
    listed.state, listed.attempts = "failed", 7
    (again,) = starts.fake.deliveries
    assert (again.state, again.attempts) == ("delivered", 2)
    starts.fake.deliver_again(again)
    (due,) = starts.fake.due(starts.now)
    assert (again.state, again.attempts) == ("delivered", 2)
    assert (due.state, due.attempts) == ("pending", 3)


def test_a_listed_delivery_is_not_sent_again_twice_at_once(starts):
    ended_delivery(starts, 200)
    (listed,) = starts.fake.deliveries
    starts.fake.deliver_again(listed)
    with pytest.raises(ValueError, match=f"delivery {listed.id} is still pending"):
        starts.fake.deliver_again(listed)
    assert len(starts.fake.due(starts.now)) == 1
