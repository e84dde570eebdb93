"""Finds the answer in the reply to a message, and makes its events if there was no stream."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.shapes import token_usage

PENDING_STATUSES = frozenset({"pending", "processing", "queued", "running", "in_progress"})
"""The statuses of a reply to a POST that say that the agent has not finished."""
WITHOUT_ANSWER: Dict[str, Optional[str]] = {
    "failed": None,
    "error": None,
    "cancelled": "the answer was cancelled",
    "timeout": "the answer timed out",
}
"""The statuses that say that there will be no answer, each with the error text for a reply without
one, or `None`."""
IDS = ("thread_id", "message_id", "execution_id")


def ids_of(message: JsonObject) -> JsonObject:
    """Return `thread_id`, `message_id` and `execution_id` of an answer or event, without nulls."""
    return {key: message[key] for key in IDS if message.get(key) is not None}


def completed_event(ids: JsonObject, content: Any, usage: Any) -> JsonObject:
    """Return a `message:completed` event for an answer that was not received as events.

    `ids` are the id fields of the event, `content` is the text of the answer, and `usage` its token
    usage.
    """
    completed = {"type": "message:completed", **ids, "content": content, "usage": usage}
    token_usage(completed)
    return completed


def token_event(ids: JsonObject, text: str) -> JsonObject:
    """Return a `message:token` event for text that did not come as an event.

    The event has the keys of `ids`, and `text` as its `token`.
    """
    return {"type": "message:token", **ids, "token": text}


def events_of(answer: JsonObject) -> List[JsonObject]:
    """Return the events that a stream would have sent for `answer`.

    They are `message:started`, the text as one `message:token` unless it is empty, and
    `message:completed`. If the agent could not answer, they are `message:started` and
    `message:failed`.
    """
    ids, content = ids_of(answer), answer.get("content")
    events: List[JsonObject] = [{"type": "message:started", **ids}]
    if _has_failed(answer):
        error = answer.get("error")
        if error is None:
            error = WITHOUT_ANSWER[_status_of(answer)]
        return [*events, {"type": "message:failed", **ids, "error": error}]
    if isinstance(content, str) and content:
        events.append(token_event(ids, content))
    return [*events, completed_event(ids, content, answer.get("usage"))]


def is_pending(answer: JsonObject) -> bool:
    """Return whether the status of a reply says that the answer, or its end, is still to come.

    An unknown status says so if the reply has a `message_id`, but no text and no error.
    """
    status = _status_of(answer)
    if status in PENDING_STATUSES:
        return True
    ended = status in ("", "completed") or _has_failed(answer)
    return not ended and not answer.get("content") and answer.get("message_id") is not None


def _status_of(answer: JsonObject) -> str:
    return text_or_empty(answer.get("status")).lower()


def _has_failed(answer: JsonObject) -> bool:
    says_why = bool(answer.get("error")) and not answer.get("content")
    return says_why or _status_of(answer) in WITHOUT_ANSWER
