"""The answers that the tests of `MessageStreamMachine` follow, and how they begin."""

from __future__ import annotations

from typing import Any, Optional

from flowmaestro_core.actions import Close, Done, Emit
from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Request
from flowmaestro_core.messages.message_stream import MessageStreamMachine
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from tests.harness.core.stepping import (
    Stepper,
    a_context,
    an_envelope,
    sse,
)


def event(kind: str, id: str = "", message_id: str = "m", **more: Any) -> bytes:
    return sse(f"message:{kind}", {"message_id": message_id, **more}, id=id or None)


def token(text: str, message_id: str = "m", id: str = "") -> bytes:
    return event("token", id, message_id, token=text)


def completed(content: Any = "Hello you", message_id: str = "m") -> bytes:
    return event("completed", "", message_id, content=content)


STARTED = event("started")
NOT_YET = an_envelope([{"id": "q", "role": "user", "content": "Hi"}])
WRITTEN = an_envelope([{"id": "m", "role": "assistant", "content": "Hello you"}])


def is_post(request: Request) -> bool:
    return request.method == "POST"


def unsent(context: Optional[Context] = None, **more: Any) -> Stepper:
    operation = Threads.send_message_stream("th_1", "Hi", **more)
    machine = MessageStreamMachine(operation, context or a_context(), "token")
    return Stepper(machine, once=is_post, terminal=MESSAGE_TERMINAL)


def started(context: Optional[Context] = None, **more: Any) -> Stepper:
    """The message is being sent."""
    stream = unsent(context, **more)
    stream.start()
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
