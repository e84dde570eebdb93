"""The events that callers get, made from server-sent events and from polled executions."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Union

from flowmaestro_core.payloads.json_values import LONGEST_NAME, JsonObject, waits_for_person
from flowmaestro_core.payloads.reply import decode_json
from flowmaestro_core.payloads.shapes import snake_case_keys, token_usage
from flowmaestro_core.streams.sse import ServerSentEvent

EXECUTION_TERMINAL = frozenset({"execution:completed", "execution:failed", "execution:cancelled"})
MESSAGE_TERMINAL = frozenset({"message:completed", "message:failed"})

REMEMBERED = frozenset(
    {
        "connected",
        "execution:started",
        "execution:paused",
        "execution:resumed",
        "stream:reconnected",
        "node:started",
        "node:completed",
        "node:failed",
        "node:retry",
    }
)
"""The types of the events that a timeline needs. It also needs the terminal event, which a stream
keeps separately."""
_TIMELINE_KEYS = (
    "type",
    "status",
    "timestamp",
    "node_id",
    "node_name",
    "duration_ms",
    "error",
    "reason",
    "workflow_name",
)


def event_from_sse(sse: ServerSentEvent) -> Dict[str, Any]:
    """Return the event as a dict whose `type` is always set.

    The `event:` field wins over a `type` in the JSON, unless the field has the default value,
    `message`. The documented keys are added beside camelCase and renamed ones. Data that is not a
    JSON object becomes `{"type": ..., "data": ...}`: `data` is the JSON value, or the text if it is
    not JSON. The terminal event of an execution gets `outputs` and `error`, and `message:completed`
    gets `content` and `usage`, if they are missing.
    """
    event: JsonObject
    try:
        data = decode_json(sse.data)
    except ValueError:
        data = sse.data
    event = data if isinstance(data, dict) else {"data": data}  # pyright: ignore[reportUnknownVariableType]
    if sse.type != "message" or not isinstance(event.get("type"), str):
        event["type"] = sse.type
    snake_case_keys(event)
    kind = event["type"]
    if kind in EXECUTION_TERMINAL:
        event.setdefault("outputs", None)
        event.setdefault("error", None)
        event.setdefault("completed_at", None)
    elif kind == "message:completed":
        event.setdefault("content", None)
        token_usage(event)
    return event


def polled_event(kind: str, execution: Mapping[str, Any]) -> Dict[str, Any]:
    """Return an event of the type `kind`, made from a polled execution.

    Besides its `type`, it has `execution_id`, `status` and `polled: True`. So the event of a pause
    has no `reason`.
    """
    return {
        "type": kind,
        "execution_id": execution.get("id"),
        "status": execution["status"],
        "polled": True,
    }


def terminal_event(execution: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the terminal event of a polled execution that has ended.

    Besides the keys of `polled_event`, it has `outputs`, `error` and `completed_at`.
    """
    return {
        **polled_event(f"execution:{execution['status']}", execution),
        "outputs": execution.get("outputs"),
        "error": execution.get("error"),
        "completed_at": execution.get("completed_at"),
    }


def timeline_part(event: Union[ServerSentEvent, Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the values of an event that a picture of the timeline shows. Truncate long texts.

    Values that are `None` are left out. A `ServerSentEvent` is decoded first.
    """
    read = event_from_sse(event) if isinstance(event, ServerSentEvent) else event
    part: Dict[str, Any] = {
        key: _short(read[key]) for key in _TIMELINE_KEYS if read.get(key) is not None
    }
    if waits_for_person(read):
        part["metadata"] = {"paused": True}
    return part


def _short(value: Any) -> Union[int, float, str]:
    return value if isinstance(value, (int, float)) else str(value)[:LONGEST_NAME]
