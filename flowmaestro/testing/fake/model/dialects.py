"""The two descriptions of the API: the published reference, and the server of today.

A dialect defines the JSON form of each resource, of lists and of errors, and which requests are
valid. `Deployed` overrides everything that differs from `Documented`. Where the reference says
nothing, both follow the deployed server. Pure.
"""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus
from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence, Tuple, cast

from flowmaestro.testing.fake.model.agents import Message, Thread, Turn, usage
from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.executions import Execution, InputField, Workflow
from flowmaestro.testing.fake.model.model_time import ModelTime
from flowmaestro.testing.fake.model.plans import ENDINGS, PAUSING_TYPES, Node, PlannedEvent
from flowmaestro.testing.fake.model.refusals import Refusal, invalid
from flowmaestro.testing.fake.model.replies import JsonObject
from flowmaestro.testing.fake.model.shape import Shape
from flowmaestro.testing.fake.model.webhooks import Delivery

Shapes = Literal["deployed", "documented"]
"""Which description of the API the fake follows."""
Events = Literal["live", "silent"]
"""Whether the stream of an execution sends more than `connected` and keepalives.

A stream that is opened after the end sends the terminal event in either case.
"""
MessageAnswers = Literal["refused", "sse"]
"""How a message sent with `"stream": true` is answered: with 501, or with events on the POST."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")
_SNAKE = re.compile(r"_([a-z])")
_CAMEL_CASE = {"duration_ms": "duration", "progress": "percentage"}


def filled(**pairs: Any) -> Dict[str, Any]:
    """Return the pairs whose value is not `None`."""
    return {key: value for key, value in pairs.items() if value is not None}


def _milliseconds(seconds: Optional[float]) -> Optional[int]:
    return None if seconds is None else round(1000 * seconds)


def _schema(workflow: Workflow) -> JsonObject:
    properties = {
        name: filled(
            type=about.type, title=about.label or None, description=about.description or None
        )
        for name, about in workflow.inputs.items()
    }
    required = [name for name, about in workflow.inputs.items() if about.required]
    return {"type": "object", "properties": properties, "required": required}


def _seconds(execution: Execution, step: PlannedEvent) -> Optional[float]:
    """Return how many seconds the completed node or execution took; `None` for other events."""
    if step.event == "node:completed" and step.node is not None:
        return cast("float", step.node.seconds)  # the plan has called a function
    return execution.duration if step.event == "execution:completed" else None


def _question(node: Node) -> str:
    """Return the question of a node that waits for a human."""
    return f"{node.name}?"


def _fields(execution: Execution, step: PlannedEvent) -> JsonObject:
    """Return the fields that depend on the type of the event, by their documented names."""
    node, event, total = step.node, step.event, execution.workflow.node_count
    if event == "execution:started":
        return {"workflow_name": execution.workflow.name, "total_nodes": total}
    if event in ENDINGS:
        failed = next(iter(execution.failed_nodes), None) if event == "execution:failed" else None
        return {"status": execution.status, **filled(failed_node_id=failed)}
    if node is None:
        return {}
    if event == "execution:progress" and step.completed is not None:
        percentage = math.floor(100 * step.finished / total + 0.5)  # rounds as JavaScript does
        progress = {"progress": percentage, "current_node": node.id}
        return {**progress, "completed": step.completed, "total": total}
    if event == "execution:paused":
        return {
            "status": "paused",
            "reason": f"Waiting for human review: {_question(node)}",
            "paused_at_node_id": node.id,
            "paused_at_node_name": node.name,
            "pause_context": {"variableName": "userResponse", "inputType": "text"},
        }
    if event == "node:completed" and node.type in PAUSING_TYPES:
        return {"metadata": {"paused": True}}
    return {}


class Documented:
    """The API as the published reference describes it."""

    node_error: Optional[str] = None
    """The error of every node that fails; `None` for the error of the node itself."""
    accepts_test_keys = True
    accepts_any_json = False
    accepts_text = False
    """Whether a `text/plain` body is accepted. Its text is then ignored, as if it were `{}`."""
    stores_bad_inputs = False
    """Whether refused inputs that are not an object are stored, and then break the list of the
    workflow's executions."""
    accepts_any_headers = False
    """Whether `headers` of a webhook may be a list, which then counts as `{}`."""
    accepts_any_id = True
    keeps_thread_metadata = True
    filters_triggers = True
    misses_failed_agents = False
    refuses_for_credits = True
    confirms_deletions = False
    message_answers: MessageAnswers = "sse"
    request_ids = "req_"
    """The prefix of every `meta.request_id`."""
    page_keys: Tuple[str, ...] = ("page", "per_page", "total_count", "has_more")

    def __init__(self, model_time: ModelTime) -> None:
        self._model_time = model_time

    # Requests.

    def check_id(self, id: str, code: str = "") -> None:
        """Raise a 500 refusal, as the deployed server does, if `id` is not a UUID.

        A dialect with `accepts_any_id` raises nothing. `code` is the error code, by default 22P02.
        """
        if not self.accepts_any_id and not _UUID.fullmatch(id):
            message = f'invalid input syntax for type uuid: "{id}"'
            raise Refusal(500, code or "22P02", message, layer="api" if code else "framework")

    def inputs(self, call: EndpointRequest, declared: Mapping[str, InputField]) -> Dict[str, Any]:
        """Return the inputs of a run, `{}` if the request has none.

        Raises a 400 refusal if the inputs are not an object, or if required inputs are missing,
        which it then names.
        """
        inputs = call.mapping("inputs")
        missing = [name for name, it in declared.items() if it.required and name not in inputs]
        if missing:
            raise invalid("Missing required inputs", **dict.fromkeys(missing, "is required"))
        return inputs

    def top_k(self, call: EndpointRequest) -> int:
        """Return the largest number of results, which the request sets; 5 by default.

        Raises a 400 refusal unless it is a whole number of at least 1.
        """
        return call.count("top_k", 5)

    # Errors and envelopes.

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """Return the body of an error response."""
        code, message, details = refusal.code or None, refusal.message, refusal.details
        if refusal.layer == "outer":
            return {"success": False, "error": message, "details": details}
        if refusal.layer == "framework":
            status, phrase = refusal.status, HTTPStatus(refusal.status).phrase
            return filled(statusCode=status, code=code, error=phrase, message=message)
        error = filled(code=code, message=message, details=details)
        return {"error": error, "meta": self.meta(request_id)}

    def meta(self, request_id: str) -> JsonObject:
        """Return the `meta` of an envelope."""
        return {"request_id": request_id, "timestamp": self.time(self._model_time.now)}

    def time(self, moment: Optional[float]) -> Optional[str]:
        """Return a time of the model as the API writes it; `None` for `None`."""
        return None if moment is None else self._model_time.iso(moment)

    def listed(self, rows: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
        """Return `data` and `pagination` of the page of `rows` that the query selects."""
        return self._page(_cut(rows, query), len(rows), query)

    def _page(self, rows: List[JsonObject], total: int, query: Mapping[str, str]) -> JsonObject:
        number, size = page_of(query)
        more = number * size < total
        pagination = {
            "page": number,
            "per_page": size,
            "total_count": total,
            "total_pages": -(-total // size),
            "has_more": more,
            "has_next": more,
            "has_prev": number > 1,
        }
        return {"data": rows, "pagination": {key: pagination[key] for key in self.page_keys}}

    # Workflows, executions and triggers.

    workflow_row: Shape = Shape(
        "id", "name", "description", "version", "created_at", updated_at="created_at"
    )
    workflow: Shape = workflow_row.plus(input_schema=_schema)
    started: Shape = Shape("status", "inputs", execution_id="id", workflow_id="workflow.id")
    execution: Shape = Shape(
        "id",
        "status",
        "inputs",
        "outputs",
        "error",
        "trigger_id",
        "created_at",
        "started_at",
        "completed_at",
        workflow_id="workflow.id",
        duration_ms=lambda execution: _milliseconds(execution.duration),
    )
    cancelled: Shape = Shape("id", "status", workflow_id="workflow.id", cancelled_at="completed_at")
    connected: Shape = Shape("status", execution_id="id")
    """The first event of a stream of an execution that has not ended."""
    _ended: Shape = connected.plus("outputs", "error", "completed_at")
    trigger: Shape = Shape(
        "id",
        "name",
        "type",
        "enabled",
        "created_at",
        workflow_id="workflow.id",
        workflow_name="workflow.name",
        last_triggered_at="last_fired_at",
        trigger_count="times_fired",
        updated_at="created_at",
    )

    def ended(self, execution: Execution) -> JsonObject:
        """Return the data of the terminal event of a stream that was opened after the end."""
        return self._ended(execution)

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """Return `data` and `pagination` of the page of executions that the query selects.

        `executions` are all of them, the newest first.
        """
        matching = _with_status(_of_workflow(executions, query), query)
        return self.listed([self.execution(execution) for execution in matching], query)

    def event_data(self, execution: Execution, step: PlannedEvent) -> JsonObject:
        """Return the data of the live event `step`, which happens now.

        The data do not contain the type of the event. That is in the `event:` field of the stream.
        """
        about = None if step.event.startswith("execution:") else step.node
        return {
            "execution_id": execution.id,
            "timestamp": self.time(self._model_time.now),
            **filled(
                node_id=about and about.id,
                node_name=about and about.name,
                node_type=about and about.type,
                outputs=self._outputs(execution, step),
                duration_ms=_milliseconds(_seconds(execution, step)),
                error=execution.error if step.event == "execution:failed" else step.error,
                **_fields(execution, step),
            ),
        }

    def _outputs(self, execution: Execution, step: PlannedEvent) -> Optional[Mapping[str, Any]]:
        """Return the outputs of the node of a `node:completed`; else those of the execution.

        A node of another type than these has outputs that depend on its settings, which the fake
        does not know; then they are `{}`.
        """
        node, now = step.node, self._model_time.now
        if step.event != "node:completed" or node is None:
            return execution.outputs
        if node.type == "input":
            return execution.inputs
        if node.type == "trigger":
            moment = round(1000 * self._model_time.wall())
            return {"nodeType": node.type, "executed": True, "timestamp": moment}
        if node.type in PAUSING_TYPES:
            return {"waitingFor": "approval", "inputType": "text", "prompt": _question(node)}
        if node.type == "wait":
            seconds = cast("float", node.seconds)
            return {
                "waitType": "duration",
                "startTime": self.time(now - seconds),
                "endTime": self.time(now),
                "actualWaitDuration": _milliseconds(seconds),
            }
        return step.outputs or {}

    # Agents, threads and memories.

    agent_row: Shape = Shape(
        "id", "name", "description", "model", "provider", "created_at", updated_at="created_at"
    )
    agent: Shape = agent_row.plus("system_prompt", "temperature", "max_tokens", "available_tools")
    thread: Shape = Shape(
        "id",
        "title",
        "status",
        "metadata",
        "created_at",
        "updated_at",
        "last_message_at",
        agent_id="agent.id",
    )
    new_thread = thread
    """A thread as its creation returns it."""
    message: Shape = Shape("id", "role", "content", "tool_calls", "created_at")
    memory: Shape = Shape("user_id", "working_memory", "metadata", "created_at", "updated_at")

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """Return `data` and `pagination` of the page of messages that the query selects."""
        return self.listed([self.message(message) for message in thread.messages], query)

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """Return the `data` of the reply to the message of `turn`, sent without streaming."""
        return {**self.message(answer), "thread_id": turn.thread.id, "usage": usage(turn, answer)}

    # Knowledge bases and webhooks.

    knowledge_base: Shape = Shape(
        "id",
        "name",
        "description",
        "embedding_model",
        "chunk_size",
        "chunk_overlap",
        "document_count",
        "chunk_count",
        "created_at",
        updated_at="created_at",
    )
    knowledge_base_row = knowledge_base
    hit: Shape = Shape(
        "score",
        id="chunk.id",
        document_id="chunk.document_id",
        document_name="chunk.document_name",
        content="chunk.content",
        metadata=lambda hit: {"chunk_index": hit.chunk.position},
    )
    webhook_row: Shape = Shape(
        "id", "name", "url", "events", "created_at", "updated_at", is_active="active"
    )
    webhook: Shape = webhook_row.plus(headers=lambda webhook: webhook.headers or None)
    delivery: Shape = Shape(
        "id",
        "response_time_ms",
        event_type="event",
        response_status="status_code",
        last_attempt_at="sent_at",
        error_message="error",
    )

    def tested(self, delivery: Delivery) -> JsonObject:
        """Return the `data` of the reply to a webhook's test: the outcome of the test delivery."""
        return {
            "status_code": delivery.status_code,
            "response_time_ms": delivery.response_time_ms,
            "success": delivery.state == "delivered",
            "error_message": delivery.error,
        }


def _inputs(workflow: Workflow) -> Optional[JsonObject]:
    """Return the declared inputs by the ids of their nodes, as the deployed server does.

    Return `None` if the workflow declares no input.
    """
    inputs = {
        f"input{number}": {
            "type": about.type,
            "label": about.label or name,
            "required": about.required,
            "description": about.description,
        }
        for number, (name, about) in enumerate(workflow.inputs.items(), 1)
    }
    return inputs or None


def _end(execution: Execution) -> Optional[float]:
    """Return `completed_at`; None for a cancelled execution, because the server never sets it."""
    return None if execution.status == "cancelled" else execution.completed_at


class Deployed(Documented):
    """The API as the deployed server implements it."""

    node_error: Optional[str] = "Activity task failed"
    accepts_test_keys = False
    accepts_any_json = True
    stores_bad_inputs = True
    accepts_text = True
    accepts_any_headers = True
    accepts_any_id = False
    keeps_thread_metadata = False
    filters_triggers = False
    misses_failed_agents = True
    refuses_for_credits = False
    confirms_deletions = True
    message_answers: MessageAnswers = "refused"
    request_ids = ""
    page_keys: Tuple[str, ...] = (
        "page",
        "per_page",
        "total_count",
        "total_pages",
        "has_next",
        "has_prev",
    )

    workflow: Shape = Documented.workflow_row.plus(inputs=_inputs)
    execution: Shape = Documented.execution.without("trigger_id", "duration_ms").plus(
        completed_at=_end
    )
    cancelled: Shape = Shape("id", "status", message=lambda _: "Execution cancelled successfully")
    trigger: Shape = Documented.trigger.without("type", "workflow_name").plus(trigger_type="type")
    thread: Shape = Documented.thread.without("metadata")
    new_thread: Shape = Shape("id", "status", "created_at", agent_id="agent.id")
    knowledge_base_row: Shape = Documented.knowledge_base.without(
        "embedding_model", "chunk_size", "chunk_overlap"
    )
    delivery: Shape = Documented.delivery.without("response_time_ms")

    def inputs(self, call: EndpointRequest, declared: Mapping[str, InputField]) -> Dict[str, Any]:
        """Return the inputs of a run as they were sent, `{}` if there are none.

        They may be a list, too, although the return type does not show that. `declared`, the inputs
        that the workflow declares, are not compared with them. Raises a 500 refusal for inputs of
        any other type, and for inputs with a null character.
        """
        inputs: object = call.body.get("inputs")
        if inputs is None:
            return {}
        text = json.dumps(inputs)
        if not isinstance(inputs, (dict, list)):
            message = f"Unexpected token '{str(inputs)[:1]}', {text} is not valid JSON"
            raise Refusal(500, "execution_failed", message)
        if _NUL.search(text):
            raise Refusal(500, "execution_failed", "unsupported Unicode escape sequence")
        return cast("Dict[str, Any]", inputs)

    def ended(self, execution: Execution) -> JsonObject:
        """Return the data of the terminal event of a stream that was opened after the end.

        After a cancellation, it has no `completed_at`.
        """
        data = super().ended(execution)
        if execution.status == "cancelled":
            del data["completed_at"]
        return data

    def top_k(self, call: EndpointRequest) -> int:
        """Return the largest number of results, which the request sets; 5 by default.

        A number in a string counts. Null and other empty or false values are 0: then the search
        returns no results. Raises a 500 refusal unless it is a whole number of at least 0.
        """
        try:
            top_k = float(call.body.get("top_k", 5) or 0)
        except (OverflowError, TypeError, ValueError):
            top_k = math.nan
        if not top_k.is_integer():  # The database refuses it, in the notation of JavaScript.
            number = "NaN" if math.isnan(top_k) else f"{top_k:g}".replace("inf", "Infinity")
            message = f'invalid input syntax for type bigint: "{number}"'
            raise Refusal(500, "internal_error", message)
        if top_k < 0:
            raise Refusal(500, "internal_error", "LIMIT must not be negative")
        return int(top_k)

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """Return `data` and `pagination`, with the counts of the deployed server.

        Without `workflow_id`, the server reads the executions up to the end of this page, and
        applies `status` to them; `total_count` is how many remain. With `workflow_id` and `status`,
        the server selects the page first, and then applies `status` to it; `total_count` is how
        many remain. With `workflow_id` alone, `total_count` is the number of all executions of the
        workflow.
        """
        if "workflow_id" in query:
            matching = _of_workflow(executions, query)
            rows = _with_status(_cut(matching, query), query)
            count = len(rows) if "status" in query else len(matching)
        else:
            number, size = page_of(query)
            matching = _with_status(executions[: number * size], query)
            rows, count = _cut(matching, query), len(matching)
        return self._page([self.execution(row) for row in rows], count, query)

    def event_data(self, execution: Execution, step: PlannedEvent) -> JsonObject:
        """Return the data with camelCase keys, its `type`, and without `current_node`.

        `timestamp` is in Unix milliseconds. `duration_ms` becomes `duration`, `progress` becomes
        `percentage`, and the `outputs` of a node become `output`.
        """
        event = step.event
        names = {**_CAMEL_CASE, "outputs": "output"} if event == "node:completed" else _CAMEL_CASE
        data = super().event_data(execution, step)
        return {
            **{
                names.get(key) or _SNAKE.sub(lambda found: found[1].upper(), key): value
                for key, value in data.items()
                if key != "current_node"
            },
            "type": event,
            "timestamp": round(1000 * self._model_time.wall()),
        }

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """Return all messages, in `data.messages`. The requested page is ignored."""
        return {"data": {"messages": [self.message(message) for message in thread.messages]}}

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """Return the `data` of the reply: an execution that contains `answer`, without `usage`."""
        return {
            "execution_id": turn.execution_id,
            "thread_id": turn.thread.id,
            "status": "completed",
            "message": {key: it for key, it in self.message(answer).items() if key != "id"},
            "iterations": 0,
            "tool_calls_count": 0,
        }

    def tested(self, delivery: Delivery) -> JsonObject:
        """Return the `data` of the reply to a webhook's test: the outcome of the test delivery.

        It has `success` (a bool), a `message`, and either the receiver's `status_code` or, if there
        was no response, the `error`.
        """
        status = delivery.status_code
        if delivery.state == "delivered":
            message = "Test webhook delivered successfully"
            return {"success": True, "status_code": status, "message": message}
        if status is not None:
            return {"success": False, "status_code": status, "message": delivery.error}
        message = "Failed to deliver test webhook"
        return {"success": False, "error": delivery.error, "message": message}


def _with_status(executions: Sequence[Execution], query: Mapping[str, str]) -> List[Execution]:
    """Return the executions with the `status` in the query; all, if the query has none."""
    return [run for run in executions if query.get("status", run.status) == run.status]


def _of_workflow(executions: Sequence[Execution], query: Mapping[str, str]) -> List[Execution]:
    """Return the executions of the `workflow_id` in the query; all, if the query has none."""
    asked = query.get("workflow_id")
    return [run for run in executions if asked in (None, run.workflow.id)]


def _cut(rows: Sequence[Any], query: Mapping[str, str]) -> List[Any]:
    """Return those of `rows` that are on the page that the query selects."""
    number, size = page_of(query)
    return list(rows[(number - 1) * size : number * size])


def page_of(query: Mapping[str, str]) -> Tuple[int, int]:
    """Return number and size of the page that the query selects.

    Malformed values are ignored. The number is at least 1, the size from 1 to 100.
    """
    number = _whole_number(query.get("page"), 1)
    size = _whole_number(query.get("per_page"), 20)
    return max(1, number), min(100, max(1, size))


def _whole_number(text: object, default: int) -> int:
    try:
        return int(str(text))
    except ValueError:
        return default
