"""The streams that the tests of `EventStreamMachine` follow, and how they begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from flowmaestro_core.actions import Read, Send
from flowmaestro_core.defaults import MAX_REPLY_SIZE
from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.streams.event_stream import EventStreamMachine
from flowmaestro_core.streams.run_polls import RunPolls
from tests.harness.core.stepping import Stepper, a_context, an_envelope, sse

USUAL = StreamTimes()
EVENTS = Executions.stream("ex_1")
THREAD = Threads.stream("th_1")
CONNECTED = sse("connected", {"execution_id": "ex_1", "status": "running"})
COMPLETED = sse("execution:completed", {"outputs": {"a": 1}})
RUNNING = an_envelope({"id": "ex_1", "status": "running"})
ENDED = an_envelope({"id": "ex_1", "status": "completed", "outputs": {"a": 1}})


def streaming(
    events: Any = EVENTS,
    options: Optional[Dict[str, Any]] = None,
    silent_poll: Optional[float] = None,
    times: StreamTimes = USUAL,
    max_reply_size: int = MAX_REPLY_SIZE,
    **more: Any,
) -> Stepper:
    """`silent_poll`: as in a run whose wait would ask at this interval."""
    if silent_poll is not None:
        more["polls"] = RunPolls(PollSchedule(1000.0, silent_poll), Pace())
    if "deadline" in more:
        events = replace(events, timeout=more.pop("deadline") - 1000.0)
    context = replace(
        a_context(**(options or {})), stream_times=times, max_reply_size=max_reply_size
    )
    machine = EventStreamMachine(events, context, "token", **more)
    return Stepper(machine, terminal=events.terminal)


def opened(events: Any = EVENTS, **more: Any) -> Stepper:
    """A stream whose connection stands and has brought nothing yet."""
    stepper = streaming(events, **more)
    stepper.start()
    stepper.opens(headers={"X-Request-ID": "req_7"})
    return stepper


def reconnected(stepper: Stepper) -> Stepper:
    """The same stream after a clean loss and a new connection, with the mark taken."""
    stepper.ends()
    stepper.waits()
    stepper.opens()
    stepper.takes()
    return stepper


def kinds(stepper: Stepper) -> Any:
    return [item["type"] for item in stepper.items]


def asked_after(stream: Stepper) -> float:
    """Seconds until the stream, which stays quiet, asks for the execution."""
    begun = stream.now
    while not isinstance(stream.action, Send):
        assert isinstance(stream.action, Read)
        stream.stays_quiet()
    return stream.now - begun
