"""The service as its published reference has it."""

from __future__ import annotations

from typing import Mapping, Sequence

from flowmaestro.testing.model import refusals
from flowmaestro.testing.model.agents import Message, Thread, Turn
from flowmaestro.testing.model.dialects.base import (
    Dialect,
    error_object,
    filled,
    of_workflow,
    outer_error,
    with_status,
)
from flowmaestro.testing.model.executions import Execution, Happening, Workflow
from flowmaestro.testing.model.knowledge import Hit, KnowledgeBase
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.triggers import Trigger
from flowmaestro.testing.model.webhooks import Delivery


class Documented(Dialect):
    """What the published reference says."""

    accepts_test_keys = True
    keeps_thread_metadata = True
    null_top_k_finds_nothing = False
    filters_triggers = True
    accepts_empty_json = False
    message_answers = "sse"

    def request_id(self, uuid: str) -> str:
        """`req_` and some digits."""
        return "req_" + uuid.replace("-", "")[:16]

    def no_such(self, resource: str, id: str, *, executing: bool = False) -> Refusal:
        """404, whatever the id looks like."""
        return refusals.not_found(resource, id)

    def no_route(self, method: str, path: str) -> Refusal:
        """404 like any other."""
        return refusals.not_found("route", f"{method} {path}")

    def malformed_json(self, reason: str) -> Refusal:
        """400."""
        return refusals.invalid(f"Request body is not valid JSON: {reason}")

    def wrong_media_type(self, media_type: str) -> Refusal:
        """415."""
        return Refusal(415, "validation_error", f"Unsupported media type: {media_type}")

    def too_large(self) -> Refusal:
        """413."""
        return Refusal(413, "validation_error", "Request body is too large")

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """An error object in an envelope."""
        if refusal.layer == "outer":
            return outer_error(refusal)
        return {"error": error_object(refusal), "meta": self.meta(request_id)}

    def pagination(self, page: Page, total: int) -> JsonObject:
        """Four keys."""
        return {
            "page": page.number,
            "per_page": page.size,
            "total_count": total,
            "has_more": page.end < total,
        }

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """Filtered first, then cut into pages."""
        matching = of_workflow(executions, query.get("workflow_id"))
        matching = with_status(matching, query.get("status"))
        return self.listed([self.execution(execution) for execution in matching], query)

    def execution(self, execution: Execution) -> JsonObject:
        """With what started it and how long it took."""
        seconds = execution.duration
        return {
            **super().execution(execution),
            "trigger_id": execution.trigger_id,
            "duration_ms": None if seconds is None else round(1000 * seconds),
        }

    def workflow_inputs(self, workflow: Workflow) -> JsonObject:
        """`input_schema`, a JSON Schema."""
        properties = {
            name: filled(
                [
                    ("type", about.type),
                    ("title", about.label or None),
                    ("description", about.description or None),
                ]
            )
            for name, about in workflow.inputs.items()
        }
        required = [name for name, about in workflow.inputs.items() if about.required]
        return {"input_schema": {"type": "object", "properties": properties, "required": required}}

    def cancelled(self, execution: Execution) -> JsonObject:
        """What was cancelled, and when."""
        return {
            "id": execution.id,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "cancelled_at": self.time(execution.completed_at),
        }

    def happening(self, happening: Happening) -> JsonObject:
        """Snake case, the name only in the event's own field."""
        name, execution, node = happening.name, happening.execution, happening.node
        seconds = happening.seconds
        about_node = node is not None and not name.startswith("execution:")
        return {
            "execution_id": execution.id,
            "timestamp": self.time(happening.at),
            **filled(
                [
                    ("node_id", node.id if node and about_node else None),
                    ("node_name", node.name if node and about_node else None),
                    ("node_type", node.type if node and about_node else None),
                    ("outputs", {} if name == "node:completed" else execution.outputs),
                    ("duration_ms", None if seconds is None else round(1000 * seconds)),
                    ("error", happening.error),
                    ("progress", happening.percentage),
                    ("current_node", node.id if node and happening.percentage else None),
                ]
            ),
        }

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """A list like any other."""
        return self.listed([self.message(message) for message in thread.messages], query)

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """The message, and what it cost."""
        return {
            "id": answer.id,
            "thread_id": turn.thread.id,
            "role": answer.role,
            "content": answer.content,
            "tool_calls": [],
            "usage": self.usage(turn, answer),
            "created_at": self.time(answer.created_at),
        }

    def hit(self, hit: Hit) -> JsonObject:
        """With an `id` and a `score`."""
        return {
            "id": hit.chunk.id,
            "document_id": hit.chunk.document_id,
            "document_name": hit.chunk.document_name,
            "content": hit.chunk.content,
            "score": hit.score,
            "metadata": {"chunk_index": hit.chunk.position},
        }

    def knowledge_base(self, base: KnowledgeBase) -> JsonObject:
        """With the embedding model."""
        return {
            "id": base.id,
            "name": base.name,
            "description": base.description,
            "embedding_model": "text-embedding-3-small",
            "document_count": base.document_count,
            "chunk_count": len(base.chunks),
            "created_at": self.time(base.created_at),
            "updated_at": self.time(base.created_at),
        }

    def trigger(self, trigger: Trigger) -> JsonObject:
        """With a `type` and the workflow's name."""
        return {
            "id": trigger.id,
            "workflow_id": trigger.workflow.id,
            "workflow_name": trigger.workflow.name,
            "name": trigger.name,
            "type": trigger.type,
            "enabled": trigger.enabled,
            "created_at": self.time(trigger.created_at),
        }

    def tested(self, delivery: Delivery) -> JsonObject:
        """How it went, and how long it took."""
        delivered, status = delivery.state == "delivered", delivery.status_code
        error = "No response from the receiver" if status is None else f"HTTP {status}"
        return {
            "success": delivered,
            "status_code": status,
            "response_time_ms": delivery.response_time_ms,
            "error_message": None if delivered else error,
        }

    def deleted(self, id: str) -> Answer:
        """204 and nothing."""
        return Answer(204)
