"""Reply shapes: functions that add to a reply every key that its type requires.

A shape takes a decoded reply, and only *adds* keys and fills those that are null; the keys of the
server keep their names. Where the documented and the deployed API disagree, a function fills the
documented key from the deployed one; a missing key without a source becomes `None`. But a missing
`meta`, `usage` or `pagination` becomes an object, as do missing `outputs` of a completed execution,
and the reply to a deletion gets the `id` that was asked for, and `deleted: True`. Two functions do
more than add: `thread_messages` unwraps `data`, and `token_usage` replaces a `usage` that is not an
object. No shape raises, whatever the server sent.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, List, Optional, Tuple, Type, cast

from flowmaestro_core.payloads.json_values import (
    JsonObject,
    count_or_none,
    list_or_empty,
    object_or_empty,
    text_or_empty,
)
from flowmaestro_core.payloads.reply import MessageList, Shape
from flowmaestro_core.types import (
    CompletedExecution,
    DeletedResource,
    ExecuteTriggerResponse,
    ExecuteWorkflowResponse,
    KnowledgeBaseResult,
    MemoryResult,
    MemorySearch,
    QueryKnowledgeBaseResponse,
    ResponseMeta,
    SendMessageResponse,
    TestWebhookResponse,
    ThreadMessage,
    TokenUsage,
    Trigger,
    Workflow,
)

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


def resource(kind: Type[Any], *fills: Shape) -> Shape:
    """Return a shape that adds the required keys of `kind`, a `TypedDict`, to `data` or its items.

    It adds the keys of `meta` as well. Each of `fills` is called with `data` or each item first.
    """

    def shape(body: JsonObject) -> None:
        rows = _dicts(body.get("data"))
        for fill in fills:
            for row in rows:
                fill(row)
        _complete(kind, rows)
        if body.get("meta") is None:
            body["meta"] = {}
        _complete(ResponseMeta, _dicts(body["meta"]))

    return shape


def _execution_id(data: JsonObject) -> None:
    """Fill `execution_id` from `id` if it is missing."""
    _fill(data, "execution_id", data.get("id"))


def _input_schema(data: JsonObject) -> None:
    """Fill a missing `input_schema` from the deployed server's `inputs`, as a JSON Schema object.

    Without an object in `inputs`, it becomes `None`, and so does a missing `inputs`. The schema has
    `x-unverified: true`, because the keys of `inputs` are the ids of the input nodes, which may
    differ from the names that a run reads.
    """
    inputs = data.setdefault("inputs", None)
    if data.get("input_schema") is None:
        declared = isinstance(inputs, dict)
        data["input_schema"] = _json_schema(cast("JsonObject", inputs)) if declared else None


def _answer(data: JsonObject) -> None:
    """Fill `role`, `content`, `tool_calls` and `created_at` in `data`.

    The deployed server has these keys in `data["message"]`, the documented API in `data`. The
    documented API has the id of the message as `id`: `message_id` is filled from `id`. The deployed
    server sends no id. `usage` is added if it is missing, and gets the keys that it lacks.
    """
    nested = object_or_empty(data.get("message"))
    for key in ("role", "content", "tool_calls", "created_at"):
        _fill(data, key, nested.get(key))
    _fill(data, "message_id", data.get("id"))
    token_usage(data)


def token_usage(message: JsonObject) -> None:
    """Add the missing keys to `usage` in `message`, which becomes an object if it is not one."""
    message["usage"] = object_or_empty(message.get("usage"))
    _complete(TokenUsage, [message["usage"]])


def _results(kind: Type[Any], data: JsonObject) -> None:
    """Give each result of a search both names of a value, if the server sends only one.

    The pairs are `similarity` and `score`, `id` and `chunk_id`. Then set the keys of `kind`, the
    `TypedDict` of a result, that are still missing to `None`.
    """
    results = _dicts(data.get("results"))
    for result in results:
        _alias(result, "similarity", "score")
        _alias(result, "id", "chunk_id")
    _complete(kind, results)


def _trigger_type(data: JsonObject) -> None:
    """Fill `type` and `trigger_type`, each from the other."""
    _alias(data, "type", "trigger_type")


def _error_message(data: JsonObject) -> None:
    """Fill a missing `error_message` from `error`.

    Without an `error`, fill it from `message` if the test delivery failed, else with `None`.
    """
    failed = data.get("success") is False
    fallback = data.get("message") if failed else None
    _fill(data, "error_message", data.get("error") or fallback)


def _outputs(data: JsonObject) -> None:
    """Fill missing `outputs` of a completed execution with `{}`, so that they are always a dict."""
    if data.get("status") == "completed":
        _fill(data, "outputs", {})


started_execution: Shape = resource(ExecuteWorkflowResponse, _execution_id)
fired_trigger: Shape = resource(ExecuteTriggerResponse, _execution_id)
workflow: Shape = resource(Workflow, _input_schema)
execution: Shape = resource(CompletedExecution, _outputs)  # All executions have the same keys.
sent_message: Shape = resource(SendMessageResponse, _answer)
knowledge_search: Shape = resource(
    QueryKnowledgeBaseResponse, partial(_results, KnowledgeBaseResult)
)
memory_search: Shape = resource(MemorySearch, partial(_results, MemoryResult))
trigger: Shape = resource(Trigger, _trigger_type)
tested_webhook: Shape = resource(TestWebhookResponse, _error_message)
_thread_message = resource(ThreadMessage)
_deleted = resource(DeletedResource)


def thread_messages(body: JsonObject) -> None:
    """Make `body["data"]` the list of messages, as a `MessageList`.

    The deployed server sends the list in `data.messages`. Members of `data` beside it move into
    `body`, unless `body` has them, and `pagination` is added if it is missing. If neither
    `data.messages` nor `data` is a list, the reply only gets missing keys, as by `resource`.
    """
    data = object_or_empty(body.get("data"))
    if isinstance(data.get("messages"), list):
        messages: List[Any] = data.pop("messages")
        body["data"] = messages
        body.update({**data, **body})
        only = {"page": 1, "per_page": len(messages), "total_count": len(messages)}
        body.setdefault("pagination", only)
    if isinstance(body.get("data"), list):
        body["data"] = MessageList(body["data"])
    _thread_message(body)


def deleted(resource_id: str, body: JsonObject) -> None:
    """Add `id` and `deleted` to `data` of a deletion, where they are missing.

    `id` is `resource_id`, and `deleted` is True. Without `data`, as after a 204, the keys of the
    body itself are used first.
    """
    if body.get("data") is None:
        said = {key: body[key] for key in ("id", "deleted") if key in body}
        body["data"] = {"id": resource_id, "deleted": True, **said}
    for data in _dicts(body["data"]):
        data.setdefault("id", resource_id)
        data.setdefault("deleted", True)
    _deleted(body)


def pagination(body: JsonObject) -> None:
    """Add the missing keys of `PaginationInfo` to `body["pagination"]`.

    If `total_pages`, `has_next`, `has_more` or `has_prev` is missing or null, it is computed from
    the other keys. A key that cannot be computed is `None`.
    """
    if body.get("pagination") is None:
        body["pagination"] = {}
    info = object_or_empty(body["pagination"])
    page, per_page = count_or_none(info.get("page")), count_or_none(info.get("per_page"))
    total, pages = count_or_none(info.get("total_count")), count_or_none(info.get("total_pages"))
    if pages is None and total is not None and per_page:
        pages = -(-total // per_page)
    more = _any_true(info.get("has_next"), info.get("has_more"))
    if more is None and page is not None and pages is not None:
        more = page < pages
    derived: Tuple[Tuple[str, Any], ...] = (
        ("page", page),
        ("per_page", per_page),
        ("total_count", total),
        ("total_pages", pages),
        ("has_next", more),
        ("has_more", more),
        ("has_prev", None if page is None else page > 1),
    )
    for key, value in derived:
        if info.get(key) is None:
            info[key] = value


_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DOCUMENTED = {
    "output": "outputs",
    "percentage": "progress",
    "duration": "duration_ms",
    "executionId": "execution_id",
    "nodeId": "node_id",
    "nodeName": "node_name",
    "nodeType": "node_type",
    "currentNode": "current_node",
    "threadId": "thread_id",
    "messageId": "message_id",
}
"""From a key of an event to its documented name. It has the keys that the server renames, and some
frequent camelCase keys, because a lookup is faster than a conversion."""
_RENAMED = frozenset(key for key in _DOCUMENTED if key.islower())


def snake_case_keys(event: JsonObject) -> None:
    """Copy the value of each camelCase or renamed key to its documented key, if that has no value.

    Only keys at the top level are copied.
    """
    # Most events of a stream of tokens have only such keys. These two checks run in C.
    if all(map(str.islower, event)) and _RENAMED.isdisjoint(event):
        return
    for key in list(event):
        documented = _DOCUMENTED.get(key)
        if documented is None:
            if key.islower():
                continue
            documented = _CAMEL.sub(r"_\1", key).lower()
        if event.get(documented) is None:
            event[documented] = event[key]


def _dicts(value: Any) -> List[JsonObject]:
    """Return the dicts in `value`: `[value]` if it is a dict itself, or those in a list.

    For any other value, return `[]`.
    """
    if isinstance(value, dict):
        one: List[JsonObject] = [value]
        return one
    return [row for row in list_or_empty(value) if isinstance(row, dict)]


def _complete(kind: Type[Any], rows: List[JsonObject]) -> None:
    """Add every missing required key of `kind` to each of the dicts `rows`, as `None`."""
    required = kind.__required_keys__
    for row in rows:
        if not required <= row.keys():
            for key in kind.__annotations__:  # This keeps the order in which they are declared.
                if key in required:
                    row.setdefault(key, None)


def _alias(data: JsonObject, one: str, other: str) -> None:
    value = data.get(one)
    if value is None:
        value = data.get(other)
    for key in (one, other):
        _fill(data, key, value)


def _fill(data: JsonObject, key: str, value: Any) -> None:
    if data.get(key) is None:
        data[key] = value


def _json_schema(inputs: JsonObject) -> JsonObject:
    properties: JsonObject = {}
    required: List[str] = []
    for name, declared in inputs.items():
        entry = cast("JsonObject", declared if isinstance(declared, dict) else {})
        described = {"title": entry.get("label"), "description": entry.get("description")}
        properties[name] = {key: value for key, value in described.items() if value is not None}
        kind = entry.get("type")
        if isinstance(kind, str) and kind in _JSON_TYPES:
            properties[name]["type"] = _JSON_TYPES[kind]
        if entry.get("required") is True:
            required.append(name)
    schema: JsonObject = {"type": "object", "properties": properties, "required": required}
    return {**schema, "x-unverified": True}


_JSON_TYPES = {
    **{name: name for name in ("string", "number", "integer", "boolean", "object", "array")},
    "text": "string",
    "json": "object",
}


def _any_true(*values: Any) -> Optional[bool]:
    """Return True if any value is True, else False if any is False, else `None`."""
    known = [value for value in values if isinstance(value, bool)]
    return any(known) if known else None


def is_terminal(execution: Any) -> bool:
    """Return whether an execution, as the server sent it, has ended."""
    return text_or_empty(object_or_empty(execution).get("status")) in TERMINAL_STATUSES
