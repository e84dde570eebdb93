"""The operation of a streamed message.

The module of its machine is imported only when the first such machine is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from flowmaestro_core.calls.call import Call
from flowmaestro_core.handles import AsyncMessageEventStream, MessageEventStream
from flowmaestro_core.operation import HandleKind, Operation


@dataclass(frozen=True)
class MessageStream(Operation[MessageEventStream, AsyncMessageEventStream]):
    """One message and the events of its answer.

    Attributes:
        streaming, whole: the calls that send the message, with and without streaming.
        messages: builds the call for one page of the thread's messages.

    """

    handle = HandleKind.MESSAGE_EVENTS

    streaming: Call[Any]
    whole: Call[Any]
    messages: Callable[[int], Call[Any]]
