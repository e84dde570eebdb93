"""The answers that the tests of `MessageStreamMachine` follow, and how they begin."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional

from flowmaestro_core.actions import Close, Done, Emit
from flowmaestro_core.context import Context
from flowmaestro_core.messages.message_stream import MessageStreamMachine
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from tests.harness.core.stepping import (
    Stepper,
    a_context,
    an_envelope,
    sse,
)

CALLS = Threads.send_message_stream("th_1", "Hi")
ANSWER = {"message_id": "m", "thread_id": "th_1", "status": "processing"}


def event(kind: str, id: str = "", message_id: str = "m", **more: Any) -> bytes:
    return sse(f"message:{kind}", {"message_id": message_id, **more}, id=id or None)


def token(text: str, message_id: str = "m", id: str = "") -> bytes:
    return event("token", id, message_id, token=text)


def completed(content: Any = "Hello you", message_id: str = "m") -> bytes:
    return event("completed", "", message_id, content=content)


STARTED = event("started")
NOT_YET = an_envelope([{"id": "q", "role": "user", "content": "Hi"}])
WRITTEN = an_envelope([{"id": "m", "role": "assistant", "content": "Hello you"}])


def unsent(context: Optional[Context] = None) -> Stepper:
    machine = MessageStreamMachine(CALLS, context or a_context(), "token")
    return Stepper(machine, terminal=MESSAGE_TERMINAL)


def started(context: Optional[Context] = None) -> Stepper:
    """The message is being sent."""
    stream = unsent(context)
    stream.start()
    return stream


def accepted(answer: Dict[str, Any] = ANSWER) -> Stepper:
    """The POST was answered with JSON."""
    stream = started()
    stream.opens(200, "application/json")
    stream.receives(json.dumps({"data": answer}).encode())
    stream.ends()
    return stream


def late(answer: Dict[str, Any] = ANSWER) -> Stepper:
    """A subscription to the thread that began after the message was sent."""
    stream = accepted(answer)
    stream.opens()
    return stream


def early() -> Stepper:
    """One that missed nothing."""
    stream = late()
    stream.receives(STARTED)
    stream.takes()
    return stream


def own() -> Stepper:
    """The POST's own stream."""
    stream = started()
    stream.opens()
    return stream


def told(stream: Stepper) -> Any:
    """What the caller got, in short: the tokens' texts, and the other events' types."""
    return [item.get("token", item["type"]) for item in stream.items]


def finishes(stream: Stepper, *expected: str) -> None:
    while isinstance(stream.action, (Close, Emit)):
        stream.closes() if isinstance(stream.action, Close) else stream.takes()
    assert isinstance(stream.action, Done)
    assert told(stream) == list(expected)
    assert stream.items[-1]["type"] in MESSAGE_TERMINAL
