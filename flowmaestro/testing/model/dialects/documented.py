"""What the service says, as its published reference has it. `deployed.py` overrides what differs.

Where the reference says nothing of a field, this is what the deployed server sends.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence

from flowmaestro.testing.model import refusals
from flowmaestro.testing.model.agents import Message, Thread, Turn, usage
from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.dialects.shape import Shape
from flowmaestro.testing.model.executions import Execution, Happening, InputField, Workflow
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal, invalid
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.timeline import Timeline
from flowmaestro.testing.model.webhooks import Delivery

Shapes = Literal["deployed", "documented"]
"""Which description of the API the fake follows."""
Events = Literal["live", "silent"]
"""Whether the stream of an execution sends more than `connected` and keepalives."""
MessageAnswers = Literal["refused", "sse", "two-connection"]
"""How a message sent with `"stream": true` is answered: with 501, with events on the POST itself,
or with JSON and the events on the thread's own stream."""


def filled(**pairs: Any) -> Dict[str, Any]:
    """The pairs that have a value."""
    return {key: value for key, value in pairs.items() if value is not None}


def _schema(workflow: Workflow) -> JsonObject:
    properties = {
        name: filled(
            type=about.type, title=about.label or None, description=about.description or None
        )
        for name, about in workflow.inputs.items()
    }
    required = [name for name, about in workflow.inputs.items() if about.required]
    return {"type": "object", "properties": properties, "required": required}


class Documented:
    """The shapes of the published reference; times come in as model times."""

    accepts_test_keys = True
    accepts_any_json = False
    keeps_thread_metadata = True
    memory_needs_text = False
    filters_triggers = True
    misses_failed_agents = False
    refuses_for_credits = True
    message_answers: MessageAnswers = "sse"

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    # Requests.

    def check_id(self, id: str, code: str = "") -> None:
        """Refuse an id that no resource can have; `code` is that of the refusal."""

    def inputs(self, call: Call, declared: Mapping[str, InputField]) -> Dict[str, Any]:
        """The inputs of a run; raises a 400 refusal for those that are missing."""
        inputs = call.mapping("inputs")
        missing = [name for name, it in declared.items() if it.required and name not in inputs]
        if missing:
            raise invalid("Missing required inputs", **dict.fromkeys(missing, "is required"))
        return inputs

    def top_k(self, call: Call) -> int:
        """How many results a query of a knowledge base asks for."""
        return call.count("top_k", 5)

    # Errors and envelopes.

    def request_id(self, uuid: str) -> str:
        """The `meta.request_id` made from a fresh UUID."""
        return "req_" + uuid.replace("-", "")[:16]

    def no_route(self, method: str, path: str) -> Refusal:
        """No endpoint has that method and path."""
        return refusals.not_found("route", f"{method} {path}")

    def malformed_json(self, reason: str) -> Refusal:
        """The body is not JSON."""
        return invalid(f"Request body is not valid JSON: {reason}")

    def wrong_media_type(self, media_type: str) -> Refusal:
        """The body is of a type that the server does not read."""
        return Refusal(415, "validation_error", f"Unsupported media type: {media_type}")

    def too_large(self) -> Refusal:
        """The body is over 1 MiB."""
        return Refusal(413, "validation_error", "Request body is too large")

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """The body of an error reply."""
        if refusal.layer == "outer":
            return {"success": False, "error": refusal.message, "details": refusal.details}
        error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
        return {"error": filled(**error), "meta": self.meta(request_id)}

    def meta(self, request_id: str) -> JsonObject:
        """The `meta` of an envelope."""
        return {"request_id": request_id, "timestamp": self.time(self._timeline.now)}

    def time(self, moment: Optional[float]) -> Optional[str]:
        """A model time as the API writes it."""
        return None if moment is None else self._timeline.iso(moment)

    def pagination(self, page: Page, total: int) -> JsonObject:
        """The `pagination` of a page of `total` rows."""
        return {
            "page": page.number,
            "per_page": page.size,
            "total_count": total,
            "has_more": page.end < total,
        }

    def listed(self, rows: Sequence[JsonObject], query: Mapping[str, str]) -> JsonObject:
        """`data` and `pagination` of the page of `rows` that the query asks for."""
        page = Page.asked_for(query)
        return {"data": page.cut(rows), "pagination": self.pagination(page, len(rows))}

    def deleted(self, id: str) -> Answer:
        """The answer to a deletion."""
        return Answer(204)

    # Workflows, executions and triggers.

    workflow_row = Shape(
        "id", "name", "description", "version", "created_at", updated_at="created_at"
    )
    workflow = workflow_row.plus(input_schema=_schema)
    started = Shape("status", "inputs", execution_id="id", workflow_id="workflow.id")
    execution = Shape(
        *("id", "status", "inputs", "outputs", "error", "trigger_id"),
        *("created_at", "started_at", "completed_at"),
        workflow_id="workflow.id",
        duration_ms=lambda execution: milliseconds(execution.duration),
    )
    cancelled = Shape("id", "status", workflow_id="workflow.id", cancelled_at="completed_at")
    connected = Shape("status", execution_id="id")
    """The first event of every stream of an execution."""
    ended = connected.plus("outputs", "error", "completed_at")
    """The terminal event of a stream that was opened after the end."""
    trigger = Shape(
        *("id", "name", "type", "enabled", "created_at"),
        workflow_id="workflow.id",
        workflow_name="workflow.name",
        last_triggered_at="last_fired_at",
        trigger_count="times_fired",
        updated_at="created_at",
    )

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """`data` and `pagination` of a list of executions, newest first."""
        matching = of_workflow(executions, query.get("workflow_id"))
        matching = with_status(matching, query.get("status"))
        return self.listed([self.execution(execution) for execution in matching], query)

    def happening(self, happening: Happening) -> JsonObject:
        """The data of a live event of an execution; its name is only in the `event:` field."""
        name, execution, node = happening.name, happening.execution, happening.about
        return {
            "execution_id": execution.id,
            "timestamp": self.time(happening.at),
            **filled(
                node_id=node and node.id,
                node_name=node and node.name,
                node_type=node and node.type,
                outputs={} if name == "node:completed" else execution.outputs,
                duration_ms=milliseconds(happening.seconds),
                error=happening.error,
                progress=happening.percentage,
                current_node=happening.current_node,
                **happening.more,
            ),
        }

    # Agents, threads and memories.

    agent_row = Shape(
        *("id", "name", "description", "model", "provider", "created_at"), updated_at="created_at"
    )
    agent = agent_row.plus("system_prompt", "temperature", "max_tokens", "available_tools")
    thread = Shape(
        *("id", "title", "status", "metadata", "created_at", "updated_at", "last_message_at"),
        agent_id="agent.id",
    )
    new_thread = thread
    """A thread as its creation returns it."""
    message = Shape("id", "role", "content", "tool_calls", "created_at")
    memory = Shape("user_id", "working_memory", "metadata", "created_at", "updated_at")

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """`data`, and `pagination` if there is one, of a thread's messages."""
        return self.listed([self.message(message) for message in thread.messages], query)

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """The answer to a message that was sent without streaming."""
        return {**self.message(answer), "thread_id": turn.thread.id, "usage": usage(turn, answer)}

    # Knowledge bases and webhooks.

    knowledge_base = Shape(
        *("id", "name", "description", "embedding_model", "chunk_size", "chunk_overlap"),
        *("document_count", "chunk_count", "created_at"),
        updated_at="created_at",
    )
    knowledge_base_row = knowledge_base
    hit = Shape(
        "score",
        id="chunk.id",
        document_id="chunk.document_id",
        document_name="chunk.document_name",
        content="chunk.content",
        metadata=lambda hit: {"chunk_index": hit.chunk.position},
    )
    webhook_row = Shape(
        *("id", "name", "url", "events", "created_at", "updated_at"), is_active="active"
    )
    webhook = webhook_row.plus(headers=lambda webhook: webhook.headers or None)
    delivery = Shape(
        *("id", "response_time_ms"),
        event_type="event",
        response_status="status_code",
        last_attempt_at="sent_at",
        error_message="error",
    )

    def tested(self, delivery: Delivery) -> JsonObject:
        """The outcome of a webhook's test."""
        return {
            "success": delivery.state == "delivered",
            "status_code": delivery.status_code,
            "response_time_ms": delivery.response_time_ms,
            "error_message": delivery.error,
        }


def milliseconds(seconds: Optional[float]) -> Optional[int]:
    """Seconds in whole milliseconds."""
    return None if seconds is None else round(1000 * seconds)


def with_status(executions: Sequence[Execution], status: Optional[str]) -> List[Execution]:
    """The executions of one status, or all of them."""
    return [execution for execution in executions if status in (None, execution.status)]


def of_workflow(executions: Sequence[Execution], workflow_id: Optional[str]) -> List[Execution]:
    """The executions of one workflow, or all of them."""
    return [run for run in executions if workflow_id in (None, run.workflow.id)]
