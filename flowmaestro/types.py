"""The types of arguments and results, such as `TypedDict`s, sets of names and callbacks."""

from __future__ import annotations

from typing import Any, Callable

from flowmaestro_core.executions.outcome import (
    AsyncRunOutcomes,
    BatchProgress,
    EndedExecution,
    RunOutcome,
    RunOutcomes,
)
from flowmaestro_core.handles import (
    AsyncEventStream,
    AsyncMessageEventStream,
    EventStream,
    MessageEventStream,
)
from flowmaestro_core.payloads.reply import Page, RateLimit, Reply
from flowmaestro_core.types import events as _events
from flowmaestro_core.types import resources as _resources
from flowmaestro_core.types.events import *  # noqa: F403
from flowmaestro_core.types.resources import *  # noqa: F403
from flowmaestro_core.types.workflow_id import WorkflowId
from flowmaestro_core.webhooks import WebhookEvent

OnEventCallback = Callable[[Any], None]
"""A function that takes one event of a stream, a dict."""
OnTokenCallback = Callable[[str], None]
"""A function that takes one piece of an answer's text."""
OnErrorCallback = Callable[[Exception], None]
"""A function that takes the error that ended a stream."""
OnCloseCallback = Callable[[], None]
"""A function that is called when a stream has ended or was closed."""

__all__ = [
    "AsyncEventStream",
    "AsyncMessageEventStream",
    "AsyncRunOutcomes",
    "BatchProgress",
    "EndedExecution",
    "EventStream",
    "MessageEventStream",
    "OnCloseCallback",
    "OnErrorCallback",
    "OnEventCallback",
    "OnTokenCallback",
    "Page",
    "RateLimit",
    "Reply",
    "RunOutcome",
    "RunOutcomes",
    "WebhookEvent",
    "WorkflowId",
]
__all__ += _events.__all__
__all__ += _resources.__all__
