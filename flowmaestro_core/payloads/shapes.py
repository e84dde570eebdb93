"""Reply shapes: every key that the types declare is there, whichever server answered.

Every function takes a decoded reply and only *adds* keys to it; what the server sent is kept
under its own name. Where the documented and the deployed API disagree, a function of its own
knows how to fill a key; a key without a source becomes `None`. The one exception is
`thread_messages`, which unwraps `data`. None of them raises, whatever the server sent.
"""

from __future__ import annotations

import re
from typing import Any, List, Optional, Tuple, Type

from flowmaestro_core.payloads.json_values import (
    JsonObject,
    count_or_none,
    list_or_empty,
    object_or_empty,
    text_or_empty,
)
from flowmaestro_core.payloads.reply import MessageList
from flowmaestro_core.types import (
    CancelledExecution,
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

JSON = JsonObject

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


def resource(kind: Type[Any], body: JSON) -> None:
    """The required keys of `kind`, a `TypedDict`, in `data` or in its rows; those of `meta`."""
    _complete(kind, body.get("data"))
    if body.get("meta") is None:
        body["meta"] = {}
    _complete(ResponseMeta, body["meta"])


def page(kind: Type[Any], body: JSON) -> None:
    """A page of resources: their required keys, and those of `pagination`."""
    resource(kind, body)
    pagination(body)


def started_execution(body: JSON) -> None:
    """`execution_id`, from an `id` if need be."""
    _execution_id(body)
    resource(ExecuteWorkflowResponse, body)


def fired_trigger(body: JSON) -> None:
    """`execution_id`, from an `id` if need be."""
    _execution_id(body)
    resource(ExecuteTriggerResponse, body)


def workflow(body: JSON) -> None:
    """`input_schema` from the deployed server's `inputs`, as a JSON Schema object.

    It says `x-unverified: true`: the server keys `inputs` by the ids of the input nodes, which
    need not be the names that a run reads.
    """
    for data in _dicts(body.get("data")):
        inputs = data.setdefault("inputs", None)
        declared = isinstance(inputs, dict)
        data.setdefault("input_schema", _json_schema(object_or_empty(inputs)) if declared else None)
    resource(Workflow, body)


def execution(body: JSON) -> None:
    """`outputs` and `error` are there before the execution has ended, too."""
    resource(CompletedExecution, body)  # all executions have the same keys


def execution_status(body: JSON) -> None:
    """What a cancellation says; `status` is always there."""
    resource(CancelledExecution, body)


def thread_messages(body: JSON) -> None:
    """The deployed server wraps the list in `data.messages` and sends no pagination."""
    data = object_or_empty(body.get("data"))
    if isinstance(data.get("messages"), list):
        messages: List[Any] = data.pop("messages")
        body["data"] = messages
        body.update({**data, **body})
        only = {"page": 1, "per_page": len(messages), "total_count": len(messages)}
        body.setdefault("pagination", only)
    if isinstance(body.get("data"), list):
        body["data"] = MessageList(body["data"])
    page(ThreadMessage, body)


def sent_message(body: JSON) -> None:
    """The answer's parts out of the deployed server's `message`; `usage` with all its keys.

    The documented server calls the message's id `id`, an older reference `message_id`.
    """
    for data in _dicts(body.get("data")):
        nested = object_or_empty(data.get("message"))
        for key in ("role", "content", "tool_calls", "created_at"):
            data.setdefault(key, nested.get(key))
        data.setdefault("message_id", data.get("id"))
        data["usage"] = complete_usage(object_or_empty(data.get("usage")))
    resource(SendMessageResponse, body)


def complete_usage(usage: JSON) -> JSON:
    """Token counts, each `None` where the server did not send it."""
    _complete(TokenUsage, [usage])
    return usage


def knowledge_search(body: JSON) -> None:
    """Of each result `similarity` and `score`, `id` and `chunk_id`: each from the other."""
    _search_results(KnowledgeBaseResult, body)
    resource(QueryKnowledgeBaseResponse, body)


def memory_search(body: JSON) -> None:
    """As `knowledge_search`."""
    _search_results(MemoryResult, body)
    resource(MemorySearch, body)


def trigger_list(body: JSON) -> None:
    """`type` and `trigger_type`: each from the other."""
    for trigger in _dicts(body.get("data")):
        _alias(trigger, "type", "trigger_type")
    page(Trigger, body)


def tested_webhook(body: JSON) -> None:
    """`error_message` from `error`, or from `message` when the test failed."""
    for data in _dicts(body.get("data")):
        failed = data.get("success") is False
        fallback = data.get("message") if failed else None
        data.setdefault("error_message", data.get("error") or fallback)
    resource(TestWebhookResponse, body)


def pagination(body: JSON) -> None:
    """The documented and the deployed keys of `pagination`, derived from each other."""
    if body.get("pagination") is None:
        body["pagination"] = {}
    info = object_or_empty(body["pagination"])
    page, per_page = count_or_none(info.get("page")), count_or_none(info.get("per_page"))
    total, pages = count_or_none(info.get("total_count")), count_or_none(info.get("total_pages"))
    if pages is None and total is not None and per_page:
        pages = -(-total // per_page)
    more = _first_bool(info.get("has_next"), info.get("has_more"))
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


def deleted(resource_id: str, body: JSON) -> None:
    """What a deletion says, from a server that says it by status alone (204) as well."""
    if body.get("data") is None:
        said = {key: body[key] for key in ("id", "deleted") if key in body}
        body["data"] = {"id": resource_id, "deleted": True, **said}
    for data in _dicts(body["data"]):
        data.setdefault("id", resource_id)
    resource(DeletedResource, body)


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
"""What the documentation calls keys of events: the renamed, and those that come all the time."""


def snake_case_keys(event: JSON) -> None:
    """The documented snake_case key beside each camelCase one, at the top level only."""
    for key in list(event):
        documented = _DOCUMENTED.get(key)
        if documented is None:
            if key.islower():
                continue
            documented = _CAMEL.sub(r"_\1", key).lower()
        event.setdefault(documented, event[key])


def _dicts(value: Any) -> List[JSON]:
    """The dicts in `value`: itself, or the rows of a list."""
    if isinstance(value, dict):
        one: List[JSON] = [value]
        return one
    return [row for row in list_or_empty(value) if isinstance(row, dict)]


def _complete(kind: Type[Any], value: Any) -> None:
    """Every required key of `kind` is in each dict."""
    required = kind.__required_keys__
    rows: List[JSON] = [value] if type(value) is dict else _dicts(value)
    for row in rows:
        if not required <= row.keys():
            for key in kind.__annotations__:  # in the order in which they are declared
                if key in required:
                    row.setdefault(key, None)


def _execution_id(body: JSON) -> None:
    for data in _dicts(body.get("data")):
        data.setdefault("execution_id", data.get("id"))


def _search_results(kind: Type[Any], body: JSON) -> None:
    for data in _dicts(body.get("data")):
        results = _dicts(data.get("results"))
        for result in results:
            _alias(result, "similarity", "score")
            _alias(result, "id", "chunk_id")
        _complete(kind, results)


def _alias(data: JSON, one: str, other: str) -> None:
    value = data.get(one)
    if value is None:
        value = data.get(other)
    for key in (one, other):
        if data.get(key) is None:
            data[key] = value


def _json_schema(inputs: JSON) -> JSON:
    properties: JSON = {}
    required: List[str] = []
    for name, declared in inputs.items():
        entry = object_or_empty(declared)
        described = {"title": entry.get("label"), "description": entry.get("description")}
        properties[name] = {key: value for key, value in described.items() if value is not None}
        json_type = _JSON_TYPES.get(text_or_empty(entry.get("type")))
        if json_type is not None:
            properties[name]["type"] = json_type
        if entry.get("required") is True:
            required.append(name)
    schema: JSON = {"type": "object", "properties": properties, "required": required}
    return {**schema, "x-unverified": True}


_JSON_TYPES = {
    "string": "string",
    "text": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "object": "object",
    "json": "object",
    "array": "array",
}


def _first_bool(*values: Any) -> Optional[bool]:
    """True if any is; else the first that is a bool: of two answers, 'there is more' counts."""
    known = [value for value in values if isinstance(value, bool)]
    return any(known) if known else None


def is_terminal(execution: Any) -> bool:
    """Whether an execution, as the server sent it, has ended."""
    return text_or_empty(object_or_empty(execution).get("status")) in TERMINAL_STATUSES
