"""The server that answers today, its oddities included."""

from __future__ import annotations

import re
from typing import Mapping, Sequence

from flowmaestro.testing.model import refusals
from flowmaestro.testing.model.agents import Message, Thread, Turn
from flowmaestro.testing.model.dialects.base import (
    Dialect,
    error_object,
    filled,
    of_workflow,
    outer_error,
    reason_phrase,
    with_status,
)
from flowmaestro.testing.model.executions import Execution, Happening, Workflow
from flowmaestro.testing.model.knowledge import Hit, KnowledgeBase
from flowmaestro.testing.model.paging import Page
from flowmaestro.testing.model.refusals import Refusal
from flowmaestro.testing.model.replies import Answer, JsonObject
from flowmaestro.testing.model.triggers import Trigger
from flowmaestro.testing.model.webhooks import Delivery

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Deployed(Dialect):
    """What is said by the server that answers today."""

    accepts_test_keys = False
    keeps_thread_metadata = False
    null_top_k_finds_nothing = True
    filters_triggers = False
    accepts_empty_json = True
    message_answers = "refused"

    def request_id(self, uuid: str) -> str:
        """The UUID itself."""
        return uuid

    def no_such(self, resource: str, id: str, *, executing: bool = False) -> Refusal:
        """404 for a UUID; anything else is handed to the database, which chokes on it: 500."""
        if _UUID.fullmatch(id):
            return refusals.not_found(resource, id)
        message = f'invalid input syntax for type uuid: "{id}"'
        if executing:
            return Refusal(500, "execution_failed", message)
        return Refusal(500, "22P02", message, layer="framework")

    def no_route(self, method: str, path: str) -> Refusal:
        """The framework's own 404."""
        return Refusal(404, "", f"Route {method}:{path} not found", layer="framework")

    def malformed_json(self, reason: str) -> Refusal:
        """The framework takes it for a fault of its own: 500."""
        return Refusal(500, "", reason, layer="framework")

    def wrong_media_type(self, media_type: str) -> Refusal:
        """The framework's own 415."""
        code, message = "FST_ERR_CTP_INVALID_MEDIA_TYPE", f"Unsupported Media Type: {media_type}"
        return Refusal(415, code, message, layer="framework")

    def too_large(self) -> Refusal:
        """The framework's own 413."""
        message = "Request body is too large"
        return Refusal(413, "FST_ERR_CTP_BODY_TOO_LARGE", message, layer="framework")

    def refusal(self, refusal: Refusal, request_id: str) -> JsonObject:
        """One of three shapes, by who answers."""
        if refusal.layer == "framework":
            pairs = [
                ("statusCode", refusal.status),
                ("code", refusal.code or None),
                ("error", reason_phrase(refusal.status)),
                ("message", refusal.message),
            ]
            return filled(pairs)
        if refusal.layer == "outer":
            return outer_error(refusal)
        return {"error": error_object(refusal), "meta": self.meta(request_id)}

    def pagination(self, page: Page, total: int) -> JsonObject:
        """Six keys."""
        return {
            "page": page.number,
            "per_page": page.size,
            "total_count": total,
            "total_pages": -(-total // page.size),
            "has_next": page.end < total,
            "has_prev": page.number > 1,
        }

    def list_executions(
        self, executions: Sequence[Execution], query: Mapping[str, str]
    ) -> JsonObject:
        """A count of what was looked at so far, or with `workflow_id` and `status` of one page."""
        page, status = Page.asked_for(query), query.get("status")
        if "workflow_id" in query:
            matching = of_workflow(executions, query["workflow_id"])
            rows = with_status(page.cut(matching), status)
            total = len(matching if status is None else rows)
        else:
            matching = with_status(executions[: page.end], status)
            rows, total = page.cut(matching), len(matching)
        pagination = self.pagination(page, total)
        return {"data": [self.execution(row) for row in rows], "pagination": pagination}

    def workflow_inputs(self, workflow: Workflow) -> JsonObject:
        """`inputs`, by name, or null."""
        inputs = {
            name: {
                "type": about.type,
                "label": about.label or name,
                "required": about.required,
                "description": about.description,
            }
            for name, about in workflow.inputs.items()
        }
        return {"inputs": inputs or None}

    def cancelled(self, execution: Execution) -> JsonObject:
        """Id, status and a sentence."""
        message = "Execution cancelled successfully"
        return {"id": execution.id, "status": execution.status, "message": message}

    def happening(self, happening: Happening) -> JsonObject:
        """Camel case, with a `type` and the time in milliseconds."""
        name, execution, node = happening.name, happening.execution, happening.node
        seconds, error = happening.seconds, happening.error
        about_node = node is not None and not name.startswith("execution:")
        return {
            "type": name,
            "timestamp": round(1000 * self._timeline.wall(happening.at)),
            "executionId": execution.id,
            **filled(
                [
                    ("nodeId", node.id if node and about_node else None),
                    ("nodeName", node.name if node and about_node else None),
                    ("nodeType", node.type if node and about_node else None),
                    ("output", {} if name == "node:completed" else None),
                    ("outputs", execution.outputs),
                    ("duration", None if seconds is None else round(1000 * seconds)),
                    ("error", error),
                    ("failedNode", node.id if node and name == "execution:failed" else None),
                    ("percentage", happening.percentage),
                    ("currentNode", node.id if node and happening.percentage else None),
                ]
            ),
        }

    def list_messages(self, thread: Thread, query: Mapping[str, str]) -> JsonObject:
        """All of them in a wrapper, whatever page was asked for."""
        return {"data": {"messages": [self.message(message) for message in thread.messages]}}

    def answered(self, turn: Turn, answer: Message) -> JsonObject:
        """An execution that holds a message; it does not say what it cost."""
        return {
            "execution_id": turn.execution_id,
            "thread_id": turn.thread.id,
            "status": "completed",
            "message": {
                "role": answer.role,
                "content": answer.content,
                "tool_calls": [],
                "created_at": self.time(answer.created_at),
            },
            "iterations": 1,
            "tool_calls_count": 0,
        }

    def hit(self, hit: Hit) -> JsonObject:
        """With a `chunk_id` and a `score`."""
        return {
            "chunk_id": hit.chunk.id,
            "document_id": hit.chunk.document_id,
            "document_name": hit.chunk.document_name,
            "content": hit.chunk.content,
            "chunk_index": hit.chunk.position,
            "score": hit.score,
        }

    def knowledge_base(self, base: KnowledgeBase) -> JsonObject:
        """Without the embedding model."""
        return {
            "id": base.id,
            "name": base.name,
            "description": base.description,
            "document_count": base.document_count,
            "chunk_count": len(base.chunks),
            "created_at": self.time(base.created_at),
            "updated_at": self.time(base.created_at),
        }

    def trigger(self, trigger: Trigger) -> JsonObject:
        """With a `trigger_type`."""
        return {
            "id": trigger.id,
            "workflow_id": trigger.workflow.id,
            "name": trigger.name,
            "trigger_type": trigger.type,
            "enabled": trigger.enabled,
            "created_at": self.time(trigger.created_at),
            "last_triggered_at": None,
        }

    def tested(self, delivery: Delivery) -> JsonObject:
        """A status code and a sentence, or an error and a sentence."""
        status = delivery.status_code
        if delivery.state == "delivered":
            message = "Test webhook delivered successfully"
            return {"success": True, "status_code": status, "message": message}
        if status is not None:
            return {"success": False, "status_code": status, "message": f"HTTP {status}"}
        message = "Failed to deliver test webhook"
        return {"success": False, "error": "No response from the receiver", "message": message}

    def deleted(self, id: str) -> Answer:
        """200 and a word of confirmation."""
        return Answer(200, {"data": {"id": id, "deleted": True}})
