"""One scenario through every machine: retries, waits, pages, streams, a message, runs."""

from __future__ import annotations

from typing import Any, Callable, List

import flowmaestro_core.executions.batch
import flowmaestro_core.executions.run
import flowmaestro_core.messages.message_stream  # noqa: F401 - loading a machine reads its file
from flowmaestro_core.calls.call import Call
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.stepping import KEEPALIVE, Stepper, a_context, an_envelope, an_error, sse

RUNNING = an_envelope({"id": "ex_1", "status": "running"})
ENDED = an_envelope({"id": "ex_1", "status": "completed", "outputs": {}})
COMPLETED = sse("execution:completed", {"outputs": {}})


def play(on_reply: Callable[[], Any]) -> int:
    """Step all of it; give back how many actions that took."""
    steppers = [
        call(on_reply),
        wait(),
        many(),
        pages(),
        event_stream(),
        *message_streams(),
        run(),
    ]
    return sum(len(stepper.trace) for stepper in steppers)


def stepping(operation: Any) -> Stepper:
    stepper = Stepper(machine_for(operation, a_context(), "token"))
    stepper.start()
    return stepper


def call(on_reply: Callable[[], Any]) -> Stepper:
    stepper = stepping(Call("GET", "/workflows", shape=lambda body: on_reply()))
    stepper.fails(Phase.NOT_SENT)
    stepper.waits()
    date = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    stepper.replies(429, an_error("slow"), {**date, "Retry-After": "Sun, 06 Nov 1994 08:49:39 GMT"})
    stepper.waits()
    stepper.replies(307, headers={"Location": "/elsewhere"})
    stepper.replies(200, an_envelope({}))
    assert stepper.value["data"] == {}
    return stepper


def wait() -> Stepper:
    stepper = stepping(Executions.wait_for_completion("ex_1", on_poll=print))
    stepper.replies(200, RUNNING)
    stepper.takes()
    stepper.waits()
    stepper.replies(200, ENDED)
    stepper.takes()
    assert stepper.value["status"] == "completed"
    return stepper


def many() -> Stepper:
    stepper = stepping(Workflows.run_many("wf_1", [{"a": 1}, {"a": {1}}], progress=print))
    stepper.replies(202, an_envelope({"execution_id": "ex_1"}))
    stepper.takes()
    stepper.waits()
    stepper.replies(429, headers={"Retry-After": "2"})
    stepper.waits()
    stepper.replies(200, ENDED)
    stepper.takes()
    assert [item.ok for item in stepper.items] == [False, True]
    return stepper


def pages() -> Stepper:
    stepper = stepping(Workflows.iterate(per_page=1))
    stepper.replies(200, an_envelope([{"id": 1}], pagination={"has_next": True}))
    stepper.takes()
    stepper.replies(200, an_envelope([{"id": 2}], pagination={"has_next": False}))
    stepper.takes()
    assert stepper.value is None
    return stepper


def event_stream() -> Stepper:
    stepper = stepping(Executions.stream("ex_1"))
    stepper.opens()
    stepper.receives(sse("node:started", id="1"))
    stepper.takes()
    stepper.fails(Phase.REPLY_BROKEN)
    stepper.waits()
    stepper.opens()
    stepper.takes()
    stepper.receives(KEEPALIVE)
    stepper.stays_quiet()
    stepper.replies(200, ENDED)
    stepper.stays_quiet()
    stepper.closes()
    stepper.takes()
    assert stepper.value["type"] == "execution:completed"
    return stepper


def message_streams() -> List[Stepper]:
    streamed = stepping(Threads.send_message_stream("th_1", "Hi"))
    streamed.opens()
    streamed.receives(sse("message:token") + sse("message:completed"))
    streamed.takes()
    streamed.closes()
    streamed.takes()
    whole = stepping(Threads.send_message_stream("th_1", "Hi"))
    whole.opens(501, "application/json")
    whole.ends()
    whole.replies(200, an_envelope({"message": {"content": "Hello"}}))
    whole.takes_all()
    late = stepping(Threads.send_message_stream("th_1", "Hi"))
    late.opens(200, "application/json")
    late.receives(b'{"data": {"status": "pending", "message_id": "m"}}')
    late.ends()
    late.replies(200, an_envelope([{"id": "m", "role": "assistant", "content": "Hello"}]))
    late.takes_all()
    for stepper in (streamed, whole, late):
        assert stepper.items[-1]["type"] == "message:completed"
    return [streamed, whole, late]


def run() -> Stepper:
    stepper = stepping(Workflows.run("wf_1", {"a": 1}))
    stepper.replies(202, an_envelope({"execution_id": "ex_1"}))
    stepper.opens()
    stepper.receives(COMPLETED)
    stepper.closes()
    stepper.takes()
    stepper.replies(200, ENDED)
    assert stepper.value["status"] == "completed"
    return stepper
